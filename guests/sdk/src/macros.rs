//! The macros that make a component of a type.

/// Makes a component of a type that implements [`crate::Worker`]: it exports `lifecycle`,
/// `handler`, `state` and `health`. Once per component.
#[macro_export]
macro_rules! worker {
    ($worker:ty) => {
        $crate::__instance!($worker, $crate::export::not_started);
        $crate::__stateful!();
    };
}

/// Makes a component of a type that implements [`crate::Worker`] and [`crate::Batch`]: it exports
/// `batch` too. Once per component.
#[macro_export]
macro_rules! batch_worker {
    ($worker:ty) => {
        $crate::__instance!($worker, $crate::export::not_started);
        $crate::__stateful!();
        $crate::bindings::batch::export_batch!(
            __PaguroInstance with_types_in $crate::bindings::batch
        );
    };
}

/// Makes a component of a type that implements [`crate::Worker`], with `handler` as its only
/// export: whatever it holds is gone with the instance. The host tells it nothing when it starts, so
/// [`crate::Worker::init`] gets an empty context, at the first message. Once per component.
#[macro_export]
macro_rules! handler {
    ($worker:ty) => {
        $crate::__instance!($worker, $crate::export::start_untold);
    };
}

/// The place of the one value that an instance has, and the export that all have. A static cannot be
/// generic, so each component gets its own here.
#[doc(hidden)]
#[macro_export]
macro_rules! __instance {
    ($worker:ty, $first:path) => {
        #[doc(hidden)]
        struct __PaguroInstance;

        impl $crate::export::Instance for __PaguroInstance {
            type Worker = $worker;

            fn first() -> Result<$worker, String> {
                $first()
            }

            fn with<R>(f: impl FnOnce(&mut Option<$worker>) -> R) -> R {
                ::std::thread_local! {
                    static WORKER: ::std::cell::RefCell<Option<$worker>> =
                        const { ::std::cell::RefCell::new(None) };
                }
                // The host runs one export at a time, so the cell is never borrowed twice.
                WORKER.with_borrow_mut(f)
            }
        }

        $crate::bindings::handler::export_handler!(
            __PaguroInstance with_types_in $crate::bindings::handler
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __stateful {
    () => {
        $crate::bindings::stateful::export_stateful!(
            __PaguroInstance with_types_in $crate::bindings::stateful
        );
    };
}
