//! Every error that leaves through the API, in one place: what failed, why, and what to run next.

use super::host::RequestError;
use super::wire::ErrorInfo;
use crate::base::ExitReason;
use crate::base::units::show_size;
use crate::change::ChangeError;
use crate::record::DatabaseError;
use crate::runtime::TreeError;
use crate::sandbox::{CallError, ComponentError};

impl From<&RequestError> for ErrorInfo {
    fn from(error: &RequestError) -> ErrorInfo {
        let message = error.to_string();
        match error {
            RequestError::NoWorker { problem: Some((problem, help)), .. } => {
                info("not-found", message, problem.clone(), help)
            }
            RequestError::NoKey(name) => {
                let cause = "this key of its template does not run".to_string();
                info("not-found", message, cause, &format!("`paguro start {name}` starts it"))
            }
            RequestError::NoWorker { nearest, .. } => {
                let cause = match nearest.as_slice() {
                    [] => String::new(),
                    near => format!(
                        "did you mean {}?",
                        near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ")
                    ),
                };
                info("not-found", message, cause, "`paguro ps` lists what there is")
            }
            RequestError::NoKeyToConfigure(worker) => info(
                "usage",
                message,
                String::new(),
                &format!("write it under [config] in {worker}.toml; `--config` is for the keys of templates"),
            ),
            RequestError::Deleted(name) => info(
                "not-found",
                message,
                "its file is not taken until it changes".to_string(),
                &format!(
                    "replace the file; or take it away for a second and put it back: {name} goes on from its state"
                ),
            ),
            RequestError::IsSupervisor { name, is_template: true } => info(
                "not-found",
                message,
                "its workers are the keys of its template".to_string(),
                &format!(
                    "name a key, such as `{name}/KEY`; to upgrade them all, replace the component in the directory {name}/"
                ),
            ),
            RequestError::IsSupervisor { name, is_template: false } => {
                info("not-found", message, String::new(), &format!("`paguro sup {name}` lists its workers"))
            }
            RequestError::Call { worker, error } => call_error(worker.as_str(), error),
            RequestError::Isolated { worker, why } => info(
                "down",
                message,
                why.clone(),
                &format!("`paguro logs {worker}` tells more; `paguro start {worker}` or a new file starts it"),
            ),
            RequestError::Change(error) => change_error(error),
            RequestError::NoState { worker, why } => info(
                "no-state",
                message,
                why.to_string(),
                &format!("`paguro logs {worker}` and `paguro events` tell more"),
            ),
            RequestError::Import { worker, why } => {
                info("rejected", message, why.clone(), &format!("`paguro state show {worker}` shows what it has"))
            }
            RequestError::Tree(error) => tree_error(error),
            RequestError::Ask { worker, .. } => {
                info("overloaded", message, String::new(), &format!("`paguro ps` shows how {worker} stands; try again"))
            }
            RequestError::IsDirectory(name) => info(
                "usage",
                message,
                String::new(),
                &format!("remove the directory {name}/, and its workers stop in order"),
            ),
            RequestError::RunsStill(worker) => info(
                "running",
                message,
                String::new(),
                &format!("`paguro stop {worker}`, then delete it; a key of a template is let go of by the stop"),
            ),
            RequestError::Down { worker, reason } => {
                let cause = match reason.is_orderly() {
                    true => "it was stopped, or ended as it should".to_string(),
                    false => format!("it ended: {reason}"),
                };
                let help = format!("`paguro start {worker}` starts it");
                info("down", message, cause, &help)
            }
            RequestError::NotStarted { worker, why } => info(
                "not-started",
                message,
                why.clone(),
                &format!("`paguro logs {worker}` and `paguro events` tell more"),
            ),
            RequestError::NotAWorker(error) => {
                info("not-a-worker", message, error.to_string(), "README.md, *Write a worker*, shows how one is built")
            }
            RequestError::NoDeadLetter(_) => info(
                "not-found",
                message,
                "it was never there, was sent again or thrown away, or newer ones took its place".to_string(),
                "`paguro dead-letters` lists what there is",
            ),
            RequestError::NotTrimmed { why } => info(
                "rejected",
                message,
                why.clone(),
                "`paguro ledger trim FILE` exports the entries and trims the ledger to what it exported",
            ),
            RequestError::NotResent { refused, .. } => info("rejected", message, refused.why.clone(), &refused.help),
            RequestError::Database(error) => database_error(error),
        }
    }
}

/// Exact, where they would look the same.
pub(super) fn more_than(size: u64, limit: u64) -> String {
    match (show_size(size), show_size(limit)) {
        (size, limit) if size != limit => format!("{size} where {limit} are accepted"),
        _ => format!("{size} bytes where {limit} are accepted"),
    }
}

fn info(code: &str, message: String, cause: String, help: &str) -> ErrorInfo {
    ErrorInfo { code: code.to_string(), message, cause, help: help.to_string() }
}

fn call_error(worker: &str, error: &CallError) -> ErrorInfo {
    let said = |what: &str| format!("`{worker}` {what}");
    match error {
        CallError::NotFound => {
            info("not-found", said("has left the tree"), String::new(), "`paguro ps` lists what there is")
        }
        CallError::Timeout => info(
            "timeout",
            said("did not answer in time"),
            "the request may or may not have been handled".to_string(),
            "`--timeout` waits longer; `deadline` under [limits] bounds each message; `paguro ps` shows how many wait",
        ),
        CallError::Overloaded => info(
            "overloaded",
            said("is overloaded"),
            "its mailbox is full, its `[rate]` allows no more just now, or its template takes up no more keys; the message \
             was not accepted"
                .to_string(),
            "try again later; the bounds are `mailbox` under [limits] and `[rate]` in its settings, and `new-keys` in \
             its supervisor's",
        ),
        CallError::CircuitOpen => info(
            "circuit-open",
            said("is not called for now"),
            "its circuit breaker is open: too many messages to it failed, or it was restarted too often".to_string(),
            &format!("try again later; `paguro events` says for how long it is open, `paguro logs {worker}` what failed"),
        ),
        CallError::Cycle(names) => {
            info("cycle", said("would wait for itself"), names.join(" -> "), "use a cast, or answer later")
        }
        CallError::Down(ExitReason::Shutdown | ExitReason::Normal) => info(
            "down",
            said("does not run"),
            "it was stopped, or ended as it should".to_string(),
            &format!("`paguro start {worker}` starts it again"),
        ),
        CallError::Down(reason) => info(
            "down",
            said("ended before it answered"),
            reason.to_string(),
            &format!("`paguro events` and `paguro logs {worker}` tell more"),
        ),
        CallError::Rejected(why) => info("rejected", said("rejected the request"), why.clone(), ""),
        CallError::TooLarge { size, limit } => info(
            "too-large",
            format!("the request is too large for `{worker}`"),
            more_than(*size, *limit),
            "`payload` under [limits] in its settings raises the limit",
        ),
    }
}

/// The message and the cause of a change that was not made.
pub fn change_text(error: &ChangeError) -> (String, String) {
    let cause = match error {
        ChangeError::Component(error) => error.to_string(),
        ChangeError::CalledOff { reason, .. } => format!("{reason}; the worker goes on as it was"),
        ChangeError::Database(error) => error.to_string(),
        _ => String::new(),
    };
    (error.to_string(), cause)
}

fn change_error(error: &ChangeError) -> ErrorInfo {
    let (message, cause) = change_text(error);
    match error {
        ChangeError::SameComponent { worker, .. } => {
            info("same-component", message, cause, &format!("`paguro history {worker}` lists its revisions"))
        }
        ChangeError::UnderWay { worker, .. } => info(
            "under-way",
            message,
            cause,
            &format!("`paguro commit {worker}` or `paguro rollback {worker}` ends a probation"),
        ),
        ChangeError::Component(ComponentError::NotCompiled(_)) => info(
            "not-compiled",
            message,
            cause,
            "make it smaller, or start the host with more `--compile-memory`; `paguro doctor` lists what is not compiled",
        ),
        ChangeError::Component(ComponentError::Banned(_)) => {
            info("not-compiled", message, cause, "`paguro check FILE` compiles it once more")
        }
        ChangeError::Component(_) => info("not-a-worker", message, cause, "`paguro check FILE` says what a file is"),
        // A rehearsal alone leaves no trace.
        ChangeError::CalledOff { worker, revision, .. } if revision.0 == 0 => info(
            "called-off",
            message,
            cause,
            &format!("`paguro events` tells more; `paguro check FILE --against {worker}` tries a file"),
        ),
        ChangeError::CalledOff { worker, .. } => info(
            "called-off",
            message,
            cause,
            &format!("`paguro history {worker}` keeps this; `paguro check FILE --against {worker}` tries another file"),
        ),
        ChangeError::NoCompiler(why) => {
            info("no-compiler", message, why.clone(), "`paguro doctor` looks at the host; then try again")
        }
        ChangeError::NoRoom(_) => {
            info("no-room", message, cause, "`paguro doctor` shows how many instances are live, and may be")
        }
        ChangeError::Stopping => info("stopping", message, cause, "start the host again: `paguro up`"),
        ChangeError::NotInProbation(worker) => {
            info("not-in-probation", message, cause, &format!("`paguro history {worker}` lists its revisions"))
        }
        ChangeError::NothingToRollBackTo(worker) => info(
            "nothing-to-roll-back-to",
            message,
            cause,
            &format!("`paguro history {worker}` lists what it ran; `--to N` goes to any other of them"),
        ),
        ChangeError::NoSuchRevision { worker, .. } => {
            info("not-found", message, cause, &format!("`paguro history {worker}` lists its revisions"))
        }
        ChangeError::Database(error) => ErrorInfo { message, ..database_error(error) },
        ChangeError::ComponentFile { .. } => info("disk", message, cause, "`paguro doctor` looks at the disk"),
        ChangeError::Gone(_) => info("not-found", message, cause, "`paguro ps` lists what there is"),
    }
}

fn tree_error(error: &TreeError) -> ErrorInfo {
    // OTP's answers, by their own names.
    let (code, help) = match error {
        TreeError::NotFound(_) | TreeError::NoSupervisor(_) => {
            ("not-found", "`paguro tree` lists what there is".to_string())
        }
        TreeError::AlreadyThere(name) | TreeError::Running(name) => {
            ("already-started", format!("`paguro restart {name}` stops it in order and starts it again"))
        }
        TreeError::AlreadyPresent(name) => ("already-present", format!("`paguro ps` shows how {name} stands")),
        TreeError::Restarting(name) => {
            let help = format!(
                "it is tried again by itself; `paguro stop {name}` ends that, and `paguro start {name}` tries it at once then"
            );
            ("restarting", help)
        }
        TreeError::SupervisorDown(name) => {
            let above = name.parent().filter(|above| !above.is_root()).map(|above| above.to_string());
            let help = above.map_or_else(
                || "start the host again: `paguro up`".to_string(),
                |above| format!("`paguro start {above}` starts it"),
            );
            ("supervisor-down", help)
        }
        TreeError::NotStarted { name, .. } => ("not-started", format!("`paguro logs {name}` tells more")),
        TreeError::Busy(_) => ("overloaded", "try again in a moment".to_string()),
        TreeError::TooMany { .. } => {
            ("overloaded", "try again in a moment; `paguro doctor` shows what takes the room".to_string())
        }
        TreeError::NotMade { .. } => ("not-started", "`paguro doctor` looks for what is wrong".to_string()),
        TreeError::NoRoom { no_room, .. } => {
            ("no-room", format!("`paguro sup {:?}` shows who uses it; raise `[budget]` there", no_room.supervisor))
        }
        TreeError::SupervisorFell => ("internal", "try again; `paguro doctor` shows what else failed".to_string()),
        TreeError::Stopping => ("stopping", "start the host again: `paguro up`".to_string()),
    };
    info(code, error.to_string(), String::new(), &help)
}

fn database_error(error: &DatabaseError) -> ErrorInfo {
    let code = if matches!(error, DatabaseError::DiskFull { .. }) { "disk" } else { "internal" };
    info(code, "the database failed".to_string(), error.to_string(), "`paguro doctor` looks at the disk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;

    #[test]
    fn a_wrong_name_gets_the_nearest() {
        let error = RequestError::NoWorker { name: "greter".into(), nearest: vec!["greeter".into()], problem: None };
        let info = ErrorInfo::from(&error);
        assert_eq!((info.code.as_str(), info.cause.as_str()), ("not-found", "did you mean `greeter`?"));
    }

    #[test]
    fn every_code_is_a_known_one() {
        let worker = Name::parse("w").unwrap();
        let calls = [
            CallError::NotFound,
            CallError::Timeout,
            CallError::Overloaded,
            CallError::CircuitOpen,
            CallError::Cycle(vec![]),
            CallError::Rejected(String::new()),
            CallError::TooLarge { size: 1, limit: 0 },
        ];
        for error in calls {
            let info = ErrorInfo::from(&RequestError::Call { worker: worker.clone(), error });
            assert!(ErrorInfo::CODES.iter().any(|(code, _)| *code == info.code), "{}", info.code);
        }
    }
}
