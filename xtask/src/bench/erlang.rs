//! The Erlang that is installed here, and our program in it.

use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result};

use super::Length;
use crate::paths;
use crate::shell::{command, run};

/// Beyond any count of processes that is measured.
const PROCESSES_MAX: &str = "2000000";

/// An installed Erlang with our program compiled for it.
pub struct Erlang {
    /// Such as `Erlang/OTP 25 with its JIT`.
    pub release: String,
}

impl Erlang {
    /// Compiles our program; `None` where there is no Erlang.
    pub fn find() -> Result<Option<Erlang>> {
        if !["erl", "erlc"].into_iter().all(installed) {
            return Ok(None);
        }
        const ASK: &str =
            "io:format(\"~s ~p\", [erlang:system_info(otp_release), catch erlang:system_info(emu_flavor)]), halt().";
        let said = run(command("erl", paths::root()).args(["-noshell", "-eval", ASK]))?;
        run(command("erlc", &paths::bench()).arg(paths::erlang_peer())).context("cannot compile the Erlang side")?;
        Ok(Some(Erlang { release: release(&said) }))
    }

    /// A run of these measurements. As many schedulers as the host has threads; all else as Erlang comes.
    pub fn command(&self, names: &[&str], length: Length) -> Command {
        let schedulers = available_parallelism().map_or(1, usize::from).to_string();
        // Where the compiled program is, and where a crash leaves its dump.
        let mut erl = command("erl", &paths::bench());
        erl.args(["+P", PROCESSES_MAX, "+S", &schedulers, "-noshell", "-run", "paguro_peer", "main"]);
        erl.arg(match length {
            Length::Quick => "quick",
            Length::Full => "full",
        });
        erl.args(names);
        erl
    }
}

/// From the release and the flavour of the emulator: without its JIT Erlang is far slower, so who reads the
/// figures must know.
fn release(said: &str) -> String {
    match said.split_once(' ') {
        Some((release, "jit")) => format!("Erlang/OTP {release} with its JIT"),
        Some((release, _)) => format!("Erlang/OTP {release} without a JIT"),
        None => format!("Erlang/OTP {said}"),
    }
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("-version").stdin(Stdio::null()).output().is_ok()
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn says_whether_it_has_a_jit() {
        assert_eq!(release("25 jit"), "Erlang/OTP 25 with its JIT");
        assert_eq!(release("25 emu"), "Erlang/OTP 25 without a JIT");
        assert_eq!(release("22 {'EXIT',badarg}"), "Erlang/OTP 22 without a JIT");
    }
}
