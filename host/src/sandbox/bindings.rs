//! Typed bindings of `wit/worker.wit`, made by wasmtime's macro.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "batch-worker",
    imports: {
        // The imports that wait: they suspend the guest's fiber, not the thread.
        "paguro:worker/messaging.call": async | trappable,
        "paguro:worker/children.start": async | trappable,
        "paguro:worker/children.stop": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
