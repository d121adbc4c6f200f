//! Hostile input against the real program, by seed: five kinds of it, each for a while.
//!
//! A kind is two things: a *plan*, which is pure and draws the next step from a seed, and *hands*, threads that
//! carry steps out against a host in a process of its own. Meanwhile a neighbour is called at a fixed rate, and the
//! memory of the host and of its children is looked at. At the end stands a verdict (`verdict.rs`), and one
//! line of figures. Nothing of it is in the host: what a kind does, anybody outside can do.
//!
//! `cargo test --test soak` gives each kind ten seconds, one after another. `cargo xtask soak NAME` gives one kind
//! ten minutes.
//!
//! | variable | meaning |
//! |---|---|
//! | `PAGURO_SOAK_SECONDS` | how long the input comes, for each kind |
//! | `PAGURO_SOAK_SEED` | what it is drawn from |
//! | `PAGURO_SOAK_PROGRAM` | another `paguro` than this tree's |
//!
//! The same seed draws the same steps. When they take effect is the machine's affair, so a failure is likely to
//! come again and not certain to.

mod http;
mod latency;
mod neighbour;
mod plan;
mod processor;
mod resident;
mod run;
mod say;
mod site;
mod subject;
mod tally;
mod verdict;

mod clients;
mod components;
mod files;
mod grants;
mod loads;

/// One test for each kind. They take turns: each has the machine to itself.
mod soak {
    use crate::run::soak;

    #[test]
    fn components() {
        soak(&crate::components::Components);
    }

    #[test]
    fn grants() {
        soak(&crate::grants::Grants);
    }

    #[test]
    fn clients() {
        soak(&crate::clients::Clients);
    }

    #[test]
    fn loads() {
        soak(&crate::loads::Loads);
    }

    #[test]
    fn files() {
        soak(&crate::files::Files);
    }
}
