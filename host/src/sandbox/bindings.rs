//! Typed bindings of `wit/worker.wit`, made by wasmtime's macro.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "batch-worker",
    imports: {
        // The only import that waits: it suspends the guest's fiber, not the thread.
        "paguro:worker/messaging.call": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
