//! What the host's threads had of the processors: how long they ran, and how long they could have run and had to
//! wait. A neighbour that is slow because everybody waits for a processor is the machine's affair, or that of who
//! took it; one that is slow although nobody waits is the host's.

use std::fs;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    pub ran: Duration,
    pub waited: Duration,
}

impl Processor {
    /// Of all threads that the process has now, since each began.
    pub fn of(pid: u32) -> Processor {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let figures = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
        figures.filter_map(|line| parsed(&line)).fold(Processor::default(), |sum, one| Processor {
            ran: sum.ran + one.ran,
            waited: sum.waited + one.waited,
        })
    }

    /// Since then. Threads that have ended meanwhile are left out.
    pub fn since(self, before: Processor) -> Processor {
        let Processor { ran, waited } = before;
        Processor { ran: self.ran.saturating_sub(ran), waited: self.waited.saturating_sub(waited) }
    }
}

/// `ran waited slices`, in nanoseconds.
fn parsed(line: &str) -> Option<Processor> {
    let mut numbers = line.split_whitespace().map(|word| word.parse().map(Duration::from_nanos).ok());
    Some(Processor { ran: numbers.next()??, waited: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_are_read() {
        let read = parsed("1500000000 250000000 17\n").unwrap();
        assert_eq!((read.ran.as_millis(), read.waited.as_millis()), (1_500, 250));
        assert_eq!(read.since(parsed("500000000 300000000 1").unwrap()).ran.as_millis(), 1_000);
        assert_eq!(parsed(""), None);
        assert!(Processor::of(std::process::id()).ran > Duration::ZERO);
    }
}
