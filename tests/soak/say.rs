//! Lines for whoever runs it. Past the test harness, which keeps what `println!` says until a test has failed: a
//! seed must be known even if the process is killed.

use std::io::Write;

pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be there to read it.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
