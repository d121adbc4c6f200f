//! One file per verb: its options, the request, and what is shown.

pub mod call;
pub mod cast;
pub mod check;
pub mod commit;
pub mod completions;
pub mod dead_letters;
pub mod delete;
pub mod doctor;
pub mod events;
pub mod health;
pub mod history;
pub mod isolate;
pub mod ledger;
pub mod logs;
pub mod ps;
pub mod restart;
pub mod rollback;
pub mod start;
pub mod state;
pub mod stop;
pub mod sup;
pub mod tree;
pub mod up;
pub mod upgrade;

mod show_upgrade;
