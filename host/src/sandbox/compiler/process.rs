//! The host's side of the compiler's process: starts it, watches what it uses, takes its answer, and ends it.
//!
//! ```text
//!   started ---> answers ---> ended        Ok, Invalid
//!      |            |
//!      +------------+-------> killed       Exceeded: memory, time or the size of the answer; Abandoned
//!      |
//!      +--------------------> died         Exceeded: by a signal, or without a whole answer
//! ```

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};

use super::artifact::Artifact;
use super::child::{COMPILED, COMPILER_ARGUMENT, INVALID};
use super::{Ended, Terms};
use crate::base::units::{show_duration, show_size};
use crate::base::{Clock, bounds};

/// How often the host looks at what a compiler uses. In that time it can touch some 30 MB more.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes that are read from the answer at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A program that compiles when it is asked to ([`super::run_if_asked`]).
#[derive(Clone, Debug)]
pub struct Program(pub PathBuf);

impl Program {
    /// Compiles in a process of its own. Blocks until it has ended; it never outlives this call.
    pub fn compile(&self, bytes: &[u8], terms: &Terms) -> Result<Artifact, Ended> {
        let child = start(&self.0, bytes, terms).map_err(|error| {
            Ended::NotStarted(format!("the compiler {} cannot be started: {error}", self.0.display()))
        })?;
        let mut running = Running(child);
        let answer = running.answer(answer_bytes_max(bytes.len() as u64), terms)?;
        running.end(&answer)?;
        read(answer)
    }
}

/// Bytes that an answer may have. Code takes three to five times its component; a component that takes more than 16
/// times its size is made to.
fn answer_bytes_max(component: u64) -> u64 {
    (component.saturating_mul(16) + (32 << 20)).min(bounds::CODE_BYTES_MAX)
}

fn start(program: &Path, bytes: &[u8], terms: &Terms) -> std::io::Result<Child> {
    // Memory, and no pipe: a compiler that does not read holds nobody up.
    let mut input = File::from(memfd_create("component", MemfdFlags::CLOEXEC)?);
    input.write_all(bytes)?;
    input.rewind()?;
    let child = Command::new(program)
        .arg(COMPILER_ARGUMENT)
        .arg(terms.memory.to_string())
        .arg(std::process::id().to_string())
        .env_clear()
        .env("RAYON_NUM_THREADS", terms.threads.to_string())
        // The allocator commits as it needs, so that a bound on data counts what is used.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Signals of the terminal are for the host, which then ends its compilers itself.
        .process_group(0)
        .spawn()?;
    // The first to go where memory runs out. Where it cannot be said, the bound on memory still holds.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000");
    Ok(child)
}

/// A compiler's process. Dropped, it is killed and reaped.
struct Running(Child);

impl Running {
    /// Everything it writes, to the end.
    fn answer(&mut self, bytes_max: u64, terms: &Terms) -> Result<Vec<u8>, Ended> {
        let Some(mut out) = self.0.stdout.take() else {
            return Err(Ended::NotStarted("the compiler has no output".to_string()));
        };
        let clock = Clock::system();
        let (begun, mut answer) = (clock.now(), Vec::new());
        loop {
            if terms.is_abandoned() {
                return Err(Ended::Abandoned);
            }
            let used = self.used();
            if used.memory > terms.memory {
                return Err(Ended::Exceeded(format!("the compiler used more than {}", show_size(terms.memory))));
            }
            if used.time > terms.time {
                return Err(Ended::Exceeded(format!("the compiler ran for more than {}", show_duration(terms.time))));
            }
            if clock.now().since(begun) > terms.time.saturating_mul(bounds::COMPILE_WAIT_FACTOR) {
                return Err(Ended::Exceeded("it was not compiled in time, on a busy machine".to_string()));
            }
            if !has_more(&out) {
                continue;
            }
            let begin = answer.len();
            answer.resize(begin + CHUNK_BYTES, 0);
            let read = out.read(&mut answer[begin..]).unwrap_or(0);
            answer.truncate(begin + read);
            if read == 0 {
                return Ok(answer);
            }
            if answer.len() as u64 > bytes_max {
                return Err(Ended::Exceeded(format!("its code has more than {}", show_size(bytes_max))));
            }
        }
    }

    /// What it uses, as the system says; nothing where it says nothing.
    fn used(&self) -> Used {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        used(&stat).unwrap_or_default()
    }

    /// Waits for its end, which follows the end of its output.
    fn end(mut self, answer: &[u8]) -> Result<(), Ended> {
        let status = self.0.wait().map_err(|error| Ended::NotStarted(error.to_string()))?;
        match status.signal() {
            None if status.success() => Ok(()),
            None if answer.is_empty() => {
                Err(Ended::NotStarted(format!("the compiler ended at once, with {status}; is it this program?")))
            }
            None => Err(Ended::Exceeded(format!("the compiler ended with {status}"))),
            // Its allocator aborts where the bound on its memory refuses more.
            Some(signal) => Err(Ended::Exceeded(format!(
                "the compiler died of signal {signal}; it may have needed more memory than it is allowed"
            ))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended and was reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    /// Resident bytes.
    memory: u64,
    /// Of all its threads on all cores: how busy the machine is otherwise makes no difference.
    time: Duration,
}

/// From `/proc/PID/stat` (proc_pid_stat(5)): field 14 and 15 are ticks in user and in system mode, 24 resident pages.
fn used(stat: &str) -> Option<Used> {
    // The program's name may hold spaces and brackets; its last bracket ends field 2.
    let (_, rest) = stat.rsplit_once(") ")?;
    let field = |number: usize| rest.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let time = Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1));
    Some(Used { memory: field(24)?.saturating_mul(rustix::param::page_size() as u64), time })
}

/// Whether there is something to read, or the end of it, within [`LOOK`].
fn has_more(out: &ChildStdout) -> bool {
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    let mut wanted = [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::IN)];
    poll(&mut wanted, Some(&look)).is_ok_and(|ready| ready > 0)
}

fn read(mut answer: Vec<u8>) -> Result<Artifact, Ended> {
    const HEAD_BYTES: usize = 9;
    match answer.first() {
        Some(&COMPILED) if answer.len() > HEAD_BYTES => {
            let mut cost = [0; 8];
            cost.copy_from_slice(&answer[1..HEAD_BYTES]);
            answer.drain(..HEAD_BYTES);
            Ok(Artifact { code: answer, instance_bytes: u64::from_le_bytes(cost) })
        }
        Some(&INVALID) => {
            let why = String::from_utf8_lossy(&answer[1..]);
            Err(Ended::Invalid(why[..why.floor_char_boundary(bounds::GUEST_TEXT_BYTES_MAX)].to_string()))
        }
        _ => Err(Ended::Exceeded("the compiler's answer is not whole".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let mut whole = vec![COMPILED];
        whole.extend(7_u64.to_le_bytes());
        assert!(matches!(read(whole.clone()), Err(Ended::Exceeded(_))), "code is never empty");
        whole.extend(b"code");
        assert_eq!(read(whole).unwrap(), Artifact { code: b"code".to_vec(), instance_bytes: 7 });
        assert!(matches!(read(Vec::new()), Err(Ended::Exceeded(_))));
        assert!(matches!(read(vec![9]), Err(Ended::Exceeded(_))));
        let said = [&[INVALID][..], b"no"].concat();
        assert!(matches!(read(said), Err(Ended::Invalid(why)) if why == "no"));
    }

    /// A program in the compiler's place, as a script.
    fn ended(script: &str, terms: &Terms) -> Ended {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("compiler");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Program(path).compile(b"bytes", terms).unwrap_err()
    }

    fn terms(time: Duration) -> Terms {
        Terms { memory: 1 << 30, time, threads: 1, insist: false, abandoned: Default::default() }
    }

    #[test]
    fn what_it_uses_is_read_whatever_its_name_is() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 100 9999 3 18446744073709551615 0";
        let page = rustix::param::page_size() as u64;
        assert_eq!(used(stat), Some(Used { memory: 3 * page, time: Duration::from_secs(2) }));
        assert_eq!(used(""), None);
    }

    #[test]
    fn a_compiler_that_misbehaves_is_ended_and_named() {
        let soon = terms(Duration::from_millis(100));
        let late = terms(Duration::from_secs(60));
        assert!(matches!(ended("sleep 60", &soon), Ended::Exceeded(why) if why.contains("in time")));
        // Long enough to have that much of a processor before its time on the wall is over, on a busy machine too.
        let spins = terms(Duration::from_secs(1));
        assert!(matches!(ended("while :; do :; done", &spins), Ended::Exceeded(why) if why.contains("ran for more")));
        assert!(matches!(ended("kill -9 $$", &late), Ended::Exceeded(why) if why.contains("signal 9")));
        assert!(matches!(ended("exit 1", &late), Ended::NotStarted(_)));
        assert!(matches!(ended("echo x; exit 1", &late), Ended::Exceeded(_)));
        assert!(matches!(ended("exec yes", &late), Ended::Exceeded(why) if why.contains("code has more")));
        let small = Terms { memory: 1, ..terms(Duration::from_secs(60)) };
        assert!(matches!(ended("sleep 60", &small), Ended::Exceeded(why) if why.contains("used more")));
        let abandoned = terms(Duration::from_secs(60));
        abandoned.abandoned.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(ended("sleep 60", &abandoned), Ended::Abandoned));
        assert!(matches!(Program("/nowhere".into()).compile(b"", &late), Err(Ended::NotStarted(_))));
    }
}
