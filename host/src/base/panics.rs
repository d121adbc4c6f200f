//! A panic of the host's own code, as data: what is kept of it for whoever catches it.
//!
//! A panic is caught where a task is polled, and ends what that task does with an [`ExitReason`](super::ExitReason).
//! The payload holds the message alone. The place and the backtrace are known only while the panic begins, so a hook
//! notes them beside the thread ([`note_panics`]). Without the hook, what is caught has its message and nothing else.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::Poll;

use super::{bounds, clock};

const _: () =
    assert!(cfg!(panic = "unwind"), "a profile in which a panic ends the process would end all workers with one");

/// What a panic said, and where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFault {
    /// One line: the panic's message, and its place in the source where that is known.
    pub message: String,
    /// The host's frames, innermost first. Empty where no hook noted them, or too many panics came within a minute.
    pub backtrace: Vec<String>,
}

impl HostFault {
    /// Bytes of its texts.
    pub fn heap_bytes(&self) -> usize {
        self.message.capacity() + super::exit::frames_bytes(&self.backtrace)
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the hook noted on this thread.
struct Noted {
    message: String,
    place: Option<String>,
    backtrace: Option<Backtrace>,
}

thread_local! {
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Has the place and the backtrace of each panic noted for whoever catches it. Once for a process; the hook that was
/// there before is called as before. Costs nothing until something panics.
pub fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            note(panic);
            before(panic);
        }));
    });
}

/// Frames are looked up in the program's debug information only when somebody reads them.
fn note(panic: &PanicHookInfo<'_>) {
    let noted = Noted {
        message: message_of(panic.payload()),
        place: panic.location().map(|place| format!("{}:{}", place.file(), place.line())),
        backtrace: may_trace().then(Backtrace::force_capture),
    };
    // An error means that the thread is about to end, or that this is a panic within a note: nobody catches it here.
    let _ = NOTED.try_with(|place| place.try_borrow_mut().map(|mut place| *place = Some(noted)));
}

/// Counts the backtraces of this minute, for the whole process.
fn may_trace() -> bool {
    /// The minute in the upper half, the backtraces of it in the lower.
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let minute = clock::minutes_of_process();
    let count = |taken: u64| match (taken >> 32 == minute, taken & 0xffff_ffff) {
        (true, n) if n >= bounds::BACKTRACES_PER_MINUTE_MAX => None,
        (true, _) => Some(taken + 1),
        (false, _) => Some((minute << 32) | 1),
    };
    TAKEN.fetch_update(Relaxed, Relaxed, count).is_ok()
}

/// What a panic that was caught on this thread just now said.
pub fn caught(payload: Box<dyn Any + Send>) -> HostFault {
    let message = message_of(&*payload);
    // A payload may be anything, and its end may panic too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    let noted = NOTED.try_with(|place| place.try_borrow_mut().ok()?.take()).ok().flatten();
    // Another panic's note: one that goes on from elsewhere passes the hook by.
    let Some(noted) = noted.filter(|noted| noted.message == message) else {
        return HostFault { message, backtrace: Vec::new() };
    };
    let message = match noted.place {
        Some(place) => format!("{message}, at {place}"),
        None => message,
    };
    let backtrace = noted.backtrace.map(|backtrace| frames(&backtrace.to_string())).unwrap_or_default();
    HostFault { message, backtrace }
}

/// Runs `work`; a panic is the error. What `work` holds is let go of before this returns.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, HostFault> {
    catch_unwind(AssertUnwindSafe(work)).map_err(caught)
}

/// Lets go of `what`, whose end may panic.
pub fn let_go<T>(what: T) -> Result<(), HostFault> {
    catch(|| drop(what))
}

/// Runs a task to its end. A panic in it is the error; it is never polled again.
pub async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, HostFault> {
    let mut work = Box::pin(work);
    let ended = {
        let mut work = pin!(&mut work);
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Err(payload) => Poll::Ready(Err(caught(payload))),
        })
        .await
    };
    // What it held may panic when it is let go of: the first fault is the one that is told.
    let gone = let_go(work);
    let done = ended?;
    gone.map(|()| done)
}

/// What it holds may panic when it is let go of, also while another panic unwinds: that ends there.
pub struct Careful<T>(Option<T>);

const IS_THERE: &str = "it is taken by value alone";

impl<T> Careful<T> {
    pub fn new(what: T) -> Careful<T> {
        Careful(Some(what))
    }

    pub fn take(mut self) -> T {
        self.0.take().expect(IS_THERE)
    }
}

impl<T> Deref for Careful<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect(IS_THERE)
    }
}

impl<T> DerefMut for Careful<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(IS_THERE)
    }
}

impl<T> Drop for Careful<T> {
    fn drop(&mut self) {
        // It has been printed. Who catches the first one tells that.
        let _ = self.0.take().map(|what| catch_unwind(AssertUnwindSafe(|| drop(what))));
    }
}

/// A value that outlives the panic of the task that works on it: the task has a [`Hold`] of it.
pub struct Survivor<T>(Arc<Mutex<Option<T>>>);

/// The value, for as long as this is held; then it is back with its [`Survivor`], however this goes.
pub struct Hold<T> {
    value: Option<T>,
    of: Arc<Mutex<Option<T>>>,
}

impl<T> Survivor<T> {
    pub fn new(value: T) -> Survivor<T> {
        Survivor(Arc::new(Mutex::new(Some(value))))
    }

    /// `None` while it is held, and once it was taken.
    pub fn hold(&self) -> Option<Hold<T>> {
        self.take().map(|value| Hold { value: Some(value), of: self.0.clone() })
    }

    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Deref for Hold<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect(IS_THERE)
    }
}

impl<T> DerefMut for Hold<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(IS_THERE)
    }
}

impl<T> Drop for Hold<T> {
    fn drop(&mut self) {
        *self.of.lock().unwrap_or_else(PoisonError::into_inner) = self.value.take();
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    line(said.unwrap_or("a panic without a message"))
}

/// One line of bounded length.
fn line(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(bounds::GUEST_TEXT_BYTES_MAX)];
    cut.split(|c: char| c.is_control()).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The functions of a backtrace as the standard library prints it, from the one that panicked on, each with its place.
fn frames(printed: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for text in printed.lines().map(str::trim) {
        if let Some(place) = text.strip_prefix("at ") {
            if let Some(last) = frames.last_mut() {
                *last = line(&format!("{last} ({})", short(place)));
            }
        } else if let Some((number, name)) = text.split_once(": ")
            && number.bytes().all(|digit| digit.is_ascii_digit())
        {
            frames.push(line(name));
        }
    }
    // What is on top is how a panic begins: the hook, then the standard library's own, down to who panicked.
    let of_std =
        |frame: &String| ["core::", "std::", "alloc::", "<alloc::", "__rustc::"].iter().any(|of| frame.starts_with(of));
    let panics = frames.iter().position(|frame| frame.contains("panicking::"));
    let begun = panics.map_or(0, |first| first + frames[first..].iter().take_while(|frame| of_std(frame)).count());
    frames.drain(..if begun == frames.len() { 0 } else { begun });
    frames.truncate(bounds::BACKTRACE_FRAMES_MAX);
    frames
}

/// A place in the source without the directories above its crate.
fn short(place: &str) -> &str {
    if let Some(at) = place.rfind("/host/src/") {
        return &place[at + 1..];
    }
    // The crate's own name, where there is one.
    let of_crate = place.rfind("/src/").map(|at| place[..at].rfind('/').map_or(0, |slash| slash + 1));
    of_crate.map_or(place, |at| &place[at..])
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// Polls until it is ready: what these wait for is ready at once.
    fn to_its_end<T>(work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
        }
    }

    async fn gives_way() {
        let mut gave = false;
        std::future::poll_fn(|_| if std::mem::replace(&mut gave, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    #[test]
    fn what_is_caught_says_what_and_where_and_a_panic_that_was_not_noted_says_what() {
        note_panics();
        let fault = catch(|| panic!("a first\nline")).unwrap_err();
        assert!(fault.message.starts_with("a first line, at host/src/base/panics.rs:"), "{fault}");
        assert!(fault.backtrace.iter().any(|frame| frame.contains("panics::tests::what_is_caught")), "{fault:?}");
        assert!(!fault.backtrace[0].contains("panicking"), "{fault:?}");
        // What goes on from elsewhere passes the hook by.
        let fault = catch(|| std::panic::resume_unwind(Box::new("another"))).unwrap_err();
        assert_eq!(fault, HostFault { message: "another".to_string(), backtrace: Vec::new() });
        let fault = catch(|| std::panic::panic_any(7)).unwrap_err();
        assert!(fault.message.starts_with("a panic without a message, at"), "{fault}");
    }

    #[test]
    fn a_message_and_a_backtrace_are_bounded() {
        note_panics();
        fn deep(left: u32) -> u32 {
            if left == 0 { panic!("{}", "x".repeat(100_000)) } else { deep(left - 1) + std::hint::black_box(1) }
        }
        let fault = catch(|| deep(100)).unwrap_err();
        assert!(fault.message.len() <= bounds::GUEST_TEXT_BYTES_MAX + 100, "{}", fault.message.len());
        assert!(fault.backtrace.len() <= bounds::BACKTRACE_FRAMES_MAX);
        assert!(fault.backtrace.iter().all(|frame| frame.len() <= bounds::GUEST_TEXT_BYTES_MAX));
    }

    #[test]
    fn one_that_panics_again_when_it_is_let_go_of_is_caught_too() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("at its end");
            }
        }
        let fault = to_its_end(guarded(async {
            let kept = Bad;
            gives_way().await;
            drop(kept);
        }));
        assert!(fault.unwrap_err().message.starts_with("at its end"));
        // Kept by what was never polled.
        let kept = Bad;
        assert!(let_go(async move { drop(kept) }).is_err());
    }

    #[test]
    fn one_that_panics_at_its_end_while_another_panic_unwinds_ends_nothing() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("at its end");
            }
        }
        let fault = catch(|| {
            let _kept = Careful::new(Bad);
            panic!("the first");
        });
        assert!(fault.unwrap_err().message.contains("the first"));
    }

    #[test]
    fn what_a_task_works_on_outlives_its_panic() {
        let number = Survivor::new(1);
        let mut hold = number.hold().unwrap();
        assert!(number.hold().is_none());
        let fault = to_its_end(guarded(async move {
            *hold += 1;
            gives_way().await;
            assert_eq!(*hold, 0, "half way");
        }));
        assert!(fault.unwrap_err().message.contains("half way"));
        assert_eq!(number.take(), Some(2));
    }

    #[test]
    fn frames_are_read_from_what_the_standard_library_prints() {
        let printed = "   0: std::backtrace::Backtrace::force_capture\n   1: core::panicking::panic_fmt\n             \
                       at /rustc/abc/library/core/src/panicking.rs:80:14\n   2: paguro::runtime::worker::run\n             \
                       at /home/x/host/src/runtime/worker.rs:7:3\n   3: main\n";
        assert_eq!(frames(printed), ["paguro::runtime::worker::run (host/src/runtime/worker.rs:7:3)", "main"]);
        assert_eq!(frames("no frames"), Vec::<String>::new());
    }
}
