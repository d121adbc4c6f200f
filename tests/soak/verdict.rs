//! What must hold, whatever came in: pure.

use std::time::Duration;

use crate::neighbour::Neighbour;
use crate::processor::Processor;
use crate::resident::Resident;
use crate::subject::{ACCOUNT_BYTES, COMPILE_BYTES};

/// A neighbour's calls: 99 of 100 are answered within this time.
pub const P99_MAX: Duration = Duration::from_millis(50);
/// From SIGTERM to the end: ten seconds for requests under way, five for workers, and as many again.
pub const STOP_TIME: Duration = Duration::from_secs(20);
/// From the moment a file is there to an answer of its worker.
pub const TAKE_TIME: Duration = Duration::from_secs(15);
/// Memory at which the run is cut short, so that a host without bounds does not take the machine with it.
pub const FUSE_BYTES: u64 = 3 << 30;

/// Everything that was measured in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Before anything hostile came.
    pub base: Resident,
    pub peak: Resident,
    /// When all hands had left.
    pub after: Resident,
    pub has_compilers: bool,
    pub base_calls: Neighbour,
    pub calls: Neighbour,
    /// How late the machine woke a thread meanwhile, 99 times of 100.
    pub lateness: Duration,
    /// Of the host's threads meanwhile.
    pub processor: Processor,
    pub steps: u64,
    /// How the host ended before it was told to.
    pub ended: Option<String>,
    /// Why the run was cut short, if it was.
    pub cut_short: Option<String>,
    pub answers: bool,
    /// How long it took to take up a new file.
    pub taken: Option<Duration>,
    pub stopped: Option<Result<Duration, String>>,
    pub panics: Vec<String>,
    /// What was read or written that nobody was granted, and what a kind found wrong by its own lights.
    pub escapes: Vec<String>,
}

/// Bytes that the host may have at most.
pub fn host_bytes_max(base: Resident) -> u64 {
    base.host + ACCOUNT_BYTES + ACCOUNT_BYTES / 2
}

impl Figures {
    /// All that is wrong; nothing if all is well.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        must(self.ended.is_none(), format!("the host ended: {}", self.ended.as_deref().unwrap_or_default()));
        let cut = self.cut_short.as_deref().unwrap_or_default();
        must(self.cut_short.is_none(), format!("cut short: {cut}"));
        let most = host_bytes_max(self.base);
        must(self.peak.host <= most, format!("the host had {}, {} at most", size(self.peak.host), size(most)));
        let children = self.peak.children;
        // Memory is looked at while it grows: a tenth is what a look may come too late.
        let allowed = COMPILE_BYTES + COMPILE_BYTES / 10;
        must(children <= allowed, format!("its children had {}, {} at most", size(children), size(COMPILE_BYTES)));
        let p99 = self.calls.calls.percentile(99);
        must(p99 < P99_MAX, format!("the neighbour's p99 was {}, {} at most", ms(p99), ms(P99_MAX)));
        let failed = (self.calls.failed, self.calls.first_failure.as_deref().unwrap_or_default());
        must(failed.0 == 0, format!("{} of the neighbour's calls failed, the first: {}", failed.0, failed.1));
        must(self.panics.is_empty(), format!("panics: {}", self.panics.join("; ")));
        wrong.extend(self.escapes.iter().cloned());
        if self.ended.is_none() && self.cut_short.is_none() {
            wrong.extend(self.wrong_at_the_end());
        }
        wrong
    }

    fn wrong_at_the_end(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.answers {
            wrong.push("the host does not answer".to_string());
        }
        if self.taken.is_none() {
            wrong.push(format!("a new file was not taken up within {} s", TAKE_TIME.as_secs()));
        }
        match &self.stopped {
            Some(Ok(_)) => {}
            Some(Err(why)) => wrong.push(why.clone()),
            None => wrong.push("it was not told to stop".to_string()),
        }
        wrong
    }

    /// All figures in one line.
    pub fn line(&self) -> String {
        let compilers = if self.has_compilers { "" } else { ", which compiles in its own process" };
        let Neighbour { calls, failed, .. } = &self.calls;
        let percentile = |percent| ms(calls.percentile(percent));
        let base = &self.base_calls.calls;
        let stopped = self.stopped.as_ref().and_then(|stopped| stopped.as_ref().ok());
        let took = |time: Option<&Duration>| time.map_or_else(|| "never".to_string(), |time| ms(*time));
        format!(
            "{} steps; host {} before, {} at most of {}{compilers}, {} after; its children {} at most of {}; \
             neighbour p50 {}, p99 {} (before {}, the machine's own {}), longest {}, {failed} of {} failed; \
             the host's threads ran {:.1} s and waited {:.1} s for a processor; a new file taken after {}; stopped after {}",
            self.steps,
            size(self.base.host),
            size(self.peak.host),
            size(host_bytes_max(self.base)),
            size(self.after.host),
            size(self.peak.children),
            size(COMPILE_BYTES),
            percentile(50),
            percentile(99),
            ms(base.percentile(99)),
            ms(self.lateness),
            ms(calls.longest()),
            calls.len(),
            self.processor.ran.as_secs_f64(),
            self.processor.waited.as_secs_f64(),
            took(self.taken.as_ref()),
            took(stopped),
        )
    }
}

/// Bytes as people say them.
pub fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    fn well() -> Figures {
        let mut calls = Latencies::default();
        (0..200).for_each(|_| calls.add(Duration::from_millis(1)));
        Figures {
            base: Resident { host: 50 << 20, children: 0 },
            peak: Resident { host: 700 << 20, children: 500 << 20 },
            calls: Neighbour { calls, ..Neighbour::default() },
            answers: true,
            taken: Some(Duration::from_secs(1)),
            stopped: Some(Ok(Duration::from_secs(1))),
            ..Figures::default()
        }
    }

    #[test]
    fn all_is_well_until_one_bound_is_broken() {
        assert_eq!(well().wrong(), Vec::<String>::new());
        let broken = |by: fn(&mut Figures)| {
            let mut figures = well();
            by(&mut figures);
            figures.wrong().join("; ")
        };
        assert!(broken(|f| f.peak.host = 819 << 20).contains("the host had 819 MiB, 818 MiB at most"));
        assert!(broken(|f| f.peak.children = 600 << 20).contains("its children had 600 MiB"));
        // Three of 203 are more than one of a hundred.
        let late = broken(|f| (0..3).for_each(|_| f.calls.calls.add(Duration::from_secs(1))));
        assert!(late.contains("the neighbour's p99 was 1000.0 ms"), "{late}");
        assert!(broken(|f| f.calls.failed = 1).contains("1 of the neighbour's calls failed"));
        assert!(broken(|f| f.answers = false).contains("does not answer"));
        assert!(broken(|f| f.taken = None).contains("not taken up within 15 s"));
        assert!(broken(|f| f.stopped = Some(Err("it hangs".into()))).contains("it hangs"));
        assert!(broken(|f| f.escapes.push("/etc was read".into())).contains("/etc was read"));
        assert!(broken(|f| f.panics.push("thread".into())).contains("panics: thread"));
        // One that is gone is not also said to be silent.
        assert_eq!(broken(|f| (f.ended, f.answers) = (Some("signal 9".into()), false)), "the host ended: signal 9");
    }
}
