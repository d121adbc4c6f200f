//! What `wit-bindgen` makes of `wit/worker.wit`.
//!
//! A world fixes what a component exports, and the host uses what a component exports: one that
//! exports `state` has its state saved. So a component must export what it has and nothing else. The
//! exports come in three parts, each a world with a macro; a component takes the parts it needs, and
//! the linker makes one world of them. The imports are generated once, with the first part.

#![allow(missing_docs)]

/// Every import, and `handler`: what every worker exports.
pub mod handler {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package paguro:sdk-handler;
            world handler {
                import paguro:worker/messaging@0.1.0;
                import paguro:worker/timers@0.1.0;
                import paguro:worker/registry@0.1.0;
                import paguro:worker/children@0.1.0;
                import paguro:worker/control@0.1.0;
                export paguro:worker/handler@0.1.0;
            }
        ",
        pub_export_macro: true,
        export_macro_name: "export_handler",
        default_bindings_module: "paguro_sdk::bindings::handler",
        generate_all,
    });
}

/// `lifecycle`, `state` and `health`: what a worker with state adds.
pub mod stateful {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package paguro:sdk-stateful;
            world stateful {
                export paguro:worker/lifecycle@0.1.0;
                export paguro:worker/state@0.1.0;
                export paguro:worker/health@0.1.0;
            }
        ",
        pub_export_macro: true,
        export_macro_name: "export_stateful",
        default_bindings_module: "paguro_sdk::bindings::stateful",
        with: { "paguro:worker/types@0.1.0": crate::bindings::handler::paguro::worker::types },
    });
}

/// `batch`: what a worker adds that takes casts several at a time.
pub mod batch {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package paguro:sdk-batch;
            world batch {
                export paguro:worker/batch@0.1.0;
            }
        ",
        pub_export_macro: true,
        export_macro_name: "export_batch",
        default_bindings_module: "paguro_sdk::bindings::batch",
        with: { "paguro:worker/types@0.1.0": crate::bindings::handler::paguro::worker::types },
    });
}
