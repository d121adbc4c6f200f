//! Clients by behaviour: those that stop half way, never read, send too much, send nonsense, or come in thousands.

mod step;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use paguro_tests::guest;

use self::step::{Behaviour, Door, Plan, Step};
use crate::http::{Request, Wire};
use crate::run::{Kind, Run};
use crate::site::{NEIGHBOUR, Site};

pub struct Clients;

/// Descriptors of the host: what many systems give a process, so that they can run out.
const HOST_DESCRIPTORS: u32 = 1_024;
/// Connections that one hand holds and does nothing with; the oldest goes when one more comes. Together they are more
/// than the host has descriptors.
const HELD_MAX: usize = 600;
/// Of them, on the owner's socket. Nobody but the owner reaches it, and a host can let him have no more connections than
/// it has descriptors for: 128 here. With fewer than these, of all hands together, he must still come through.
const HELD_ON_SOCKET_MAX: usize = 24;
/// The worker that writes what followers do not read.
const TALKER: &str = "talker";

impl Kind for Clients {
    fn name(&self) -> &'static str {
        "clients"
    }

    fn prepare(&self, site: &Site) {
        site.put(TALKER, &guest("probe"));
        site.write("talker.toml", "[limits]\nlog-lines = 100000\n");
        site.put("sleeper", &guest("fault-mute"));
    }

    fn descriptors(&self) -> Option<u32> {
        Some(HOST_DESCRIPTORS)
    }

    fn hands(&self) -> usize {
        4
    }

    fn work(&self, _: usize, seed: u64, site: &Site, run: &Run) {
        let mut held: [VecDeque<Wire>; 2] = Default::default();
        for Step { door, behaviour } in Plan::new(seed).take_while(|_| run.goes_on()) {
            let outcome = match behave(site, run, door, &behaviour) {
                Ok((wires, outcome)) => {
                    hold(&mut held[usize::from(door == Door::Unix)], wires, held_max(door));
                    outcome
                }
                Err(error) => format!("{:?}", error.kind()),
            };
            run.tally.count(behaviour.name(), format!("{} {outcome}", door.name()));
        }
    }
}

fn held_max(door: Door) -> usize {
    if door == Door::Unix { HELD_ON_SOCKET_MAX } else { HELD_MAX }
}

/// The oldest go when more come.
fn hold(held: &mut VecDeque<Wire>, new: Vec<Wire>, most: usize) {
    held.extend(new);
    let over = held.len().saturating_sub(most);
    held.drain(..over);
}

fn open(site: &Site, door: Door) -> io::Result<Wire> {
    match door {
        Door::Unix => site.wire(),
        Door::Token | Door::NoToken | Door::WrongToken => Wire::tcp(site.tcp),
    }
}

fn token(site: &Site, door: Door) -> Option<&str> {
    match door {
        Door::Unix | Door::NoToken => None,
        Door::Token => Some(&site.token),
        Door::WrongToken => Some("0123456789abcdef0123456789abcdef"),
    }
}

/// Does it; which connections are to be held, and what came of it.
fn behave(site: &Site, run: &Run, door: Door, behaviour: &Behaviour) -> io::Result<(Vec<Wire>, String)> {
    let head = |request: Request<'_>| Request { token: token(site, door), ..request }.head();
    let call = format!("/v1/workers/{NEIGHBOUR}/call");
    let held = |wire: Wire| Ok((vec![wire], "held".to_string()));
    match behaviour {
        Behaviour::Silent { connections } => {
            let count = (*connections as usize).min(held_max(door));
            let wires: Vec<Wire> = (0..count).map_while(|_| open(site, door).ok()).collect();
            let outcome = if wires.len() == count { "held" } else { "refused" };
            Ok((wires, outcome.to_string()))
        }
        Behaviour::HalfHeader { connections } => {
            let mut wires = Vec::new();
            for _ in 0..(*connections as usize).min(held_max(door)) {
                let mut wire = open(site, door)?;
                wire.write_all(b"GET /v1/host HTTP/1.1\r\nHost: pag")?;
                wires.push(wire);
            }
            Ok((wires, "held".to_string()))
        }
        Behaviour::Slow { pause_ms, in_body } => {
            let whole = if *in_body { head(Request::post(&call, &[b'x'; 100])) } else { String::new() };
            let drip = if *in_body { "x".repeat(100) } else { head(Request::get("/v1/host")) };
            let mut wire = open(site, door)?;
            wire.write_all(whole.as_bytes())?;
            for byte in drip.bytes().take_while(|_| run.goes_on()).take(20) {
                wire.write_all(&[byte])?;
                run.pause(Duration::from_millis(u64::from(*pause_ms)));
            }
            held(wire)
        }
        Behaviour::HugeLength { bytes } => {
            let head =
                head(Request::post(&call, b"")).replace("Content-Length: 0", &format!("Content-Length: {bytes}"));
            let mut wire = open(site, door)?;
            wire.write_all(head.as_bytes())?;
            wire.write_all(&[0; 1 << 10])?;
            let answered = first_line(&mut wire, Duration::from_millis(200));
            Ok((vec![wire], answered))
        }
        Behaviour::Body { to, bytes, finish } => {
            let target = to.target();
            let body = vec![b'x'; *bytes as usize];
            let mut wire = open(site, door)?;
            wire.write_all(head(Request::post(&target, &body)).as_bytes())?;
            let sent = body.len() - usize::from(!finish);
            let written = wire.write_all(&body[..sent]);
            let answered = first_line(&mut wire, Duration::from_secs(if *finish { 2 } else { 0 }));
            if *finish { written.map(|()| (vec![], answered)) } else { held(wire) }
        }
        Behaviour::Chunks { chunk, count } => {
            let mut wire = open(site, door)?;
            let head = head(Request::post(&call, b"")).replace("Content-Length: 0", "Transfer-Encoding: chunked");
            wire.write_all(head.as_bytes())?;
            let text = [format!("{chunk:x}\r\n").into_bytes(), vec![b'y'; *chunk as usize], b"\r\n".to_vec()].concat();
            for _ in 0..*count {
                if wire.write_all(&text).is_err() || !run.goes_on() {
                    break;
                }
            }
            let answered = first_line(&mut wire, Duration::from_millis(200));
            Ok((vec![wire], answered))
        }
        Behaviour::Follower { what } => {
            let mut wire = open(site, door)?;
            wire.write_all(head(Request::get(what)).as_bytes())?;
            held(wire)
        }
        Behaviour::Talk { lines } => {
            let line = serde_json::json!({ "print": "t".repeat(4_000) }).to_string();
            let target = format!("/v1/workers/{TALKER}/call");
            let request = head(Request::post(&target, line.as_bytes())) + &line;
            pipelined(site, door, &request, *lines)
        }
        Behaviour::Pipeline { requests } => pipelined(site, door, &head(Request::get("/v1/workers")), *requests),
        Behaviour::Noise { bytes, seed } => {
            let mut random = fastrand::Rng::with_seed(*seed);
            let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(*bytes as usize).collect();
            let mut wire = open(site, door)?;
            wire.write_all(&noise)?;
            Ok((vec![], first_line(&mut wire, Duration::from_millis(300))))
        }
        Behaviour::Odd { method, target } => {
            let mut wire = open(site, door)?;
            wire.write_all(head(Request { method, ..Request::get(target) }).as_bytes())?;
            Ok((vec![], first_line(&mut wire, Duration::from_secs(1))))
        }
        Behaviour::Leave { target } => {
            let mut wire = open(site, door)?;
            wire.write_all(head(Request::post(target, b"")).as_bytes())?;
            Ok((vec![], "left".to_string()))
        }
    }
}

/// The same request again and again, and not one answer read until all are sent.
fn pipelined(site: &Site, door: Door, request: &str, count: u32) -> io::Result<(Vec<Wire>, String)> {
    let mut wire = open(site, door)?;
    let all = request.repeat(count as usize);
    // A host that no longer reads, because nobody reads what it answers, is right.
    let outcome = if wire.write_all(all.as_bytes()).is_ok() { "sent" } else { "not taken" };
    Ok((vec![wire], outcome.to_string()))
}

/// The status of an answer that comes in time.
fn first_line(wire: &mut Wire, time: Duration) -> String {
    let begun = Instant::now();
    let mut buffer = [0; 64];
    while begun.elapsed() < time {
        match wire.read(&mut buffer) {
            Ok(0) => return "closed".to_string(),
            Ok(count) => {
                let text = String::from_utf8_lossy(&buffer[..count]);
                return text.split(' ').nth(1).unwrap_or("nonsense").to_string();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return format!("{:?}", error.kind()),
        }
    }
    "no answer".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_seeds() {
        crate::plan::check(Plan::new, |step| step.behaviour.name(), Behaviour::NAMES);
        crate::plan::check(Plan::new, |step| step.door.name(), &["unix", "token", "no-token", "wrong-token"]);
    }
}
