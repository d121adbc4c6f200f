//! A run as text: for people, and for comparing two runs byte by byte.

use std::fmt::Write;

use paguro::record::Event;

use crate::stream::{Entry, Fact, Look, Request, Sent, State};

pub fn render(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let (who, what) = line(&entry.fact);
        let (seconds, ms) = (entry.at / 1_000, entry.at % 1_000);
        writeln!(text, "{seconds:4}.{ms:03}  {who:8}  {what}").expect("a string takes it");
    }
    text
}

fn line(fact: &Fact) -> (String, String) {
    match fact {
        Fact::Event(event) => {
            let who = event.subject().map(ToString::to_string).unwrap_or_default();
            (who, self::event(event))
        }
        Fact::Said { worker, text } => (worker.to_string(), format!("says: {text}")),
        Fact::Sent(sent) => (sent.to.to_string(), self::sent(sent)),
        Fact::Answered { id, outcome: Ok(reply) } => {
            (String::new(), format!("{id} is answered: {}", String::from_utf8_lossy(reply)))
        }
        Fact::Answered { id, outcome: Err(error) } => (String::new(), format!("{id} fails: {error}")),
        Fact::Asked { ask, request } => {
            (request.subject().to_string(), format!("ask {ask}: {}", self::request(request)))
        }
        Fact::Replied { ask, reply, child } => {
            let reply = match reply {
                Ok(reached) => format!("{reached:?}").to_lowercase(),
                Err(error) => error.to_string(),
            };
            let child = child.as_ref().map(|child| format!(", it is {}", state(child))).unwrap_or_default();
            (String::new(), format!("ask {ask}: {reply}{child}"))
        }
        Fact::Looked(look) => (String::new(), looked(look)),
    }
}

/// Without the component's hash, which is another for each build of the guest.
fn event(event: &Event) -> String {
    match event {
        Event::WorkerStarted { incarnation, took, .. } => {
            format!("started in {} ms, incarnation {incarnation}", took.as_millis())
        }
        Event::WorkerStartFailed { reason, .. } => format!("did not start: {reason}"),
        Event::WorkerExited { incarnation, reason, .. } => format!("incarnation {incarnation} ended: {reason}"),
        other => other.to_string(),
    }
}

fn sent(sent: &Sent) -> String {
    let how = match sent.deadline {
        None => "cast".to_string(),
        Some(deadline) => format!("call until {deadline}"),
    };
    let refused = sent.refused.as_ref().map(|error| format!(", refused: {error}")).unwrap_or_default();
    format!("{how}: {} {}{refused}", sent.id, sent.operation)
}

fn request(request: &Request) -> String {
    match request {
        Request::StartTree => "start the tree".to_string(),
        Request::StopTree => "stop the tree".to_string(),
        Request::Start(_) => "start".to_string(),
        Request::Stop(_) => "stop".to_string(),
        Request::Restart(_) => "restart".to_string(),
        Request::Isolate(_) => "isolate".to_string(),
        Request::Delete(_) => "delete".to_string(),
        Request::Remove(_) => "remove".to_string(),
        Request::AddWorker(worker) => format!("add {worker:?}"),
        Request::AddSupervisor(supervisor) => format!("add {supervisor:?}"),
        Request::Configure(supervisor) => format!("configure {supervisor:?}"),
        Request::ConfigureWorker(worker) => format!("configure {worker:?}"),
    }
}

fn state(state: &State) -> String {
    let waiting = if state.waiting > 0 { format!(" with {} waiting", state.waiting) } else { String::new() };
    format!("{}{waiting}", state.standing.word())
}

fn looked(look: &Look) -> String {
    let down: Vec<String> =
        look.supervisors.iter().filter(|(_, state)| !state.running).map(|(name, _)| name.to_string()).collect();
    let down = if down.is_empty() { String::new() } else { format!("; down: {}", down.join(", ")) };
    let workers: Vec<String> = look.workers.iter().map(|(name, at)| format!("{name} {}", state(at))).collect();
    format!("look: {}{down}", workers.join(", "))
}
