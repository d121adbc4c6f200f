//! Resident memory: of the host, and of its children together.

use std::fs;

/// Bytes, at one moment or at the worst one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    pub host: u64,
    pub children: u64,
}

impl Resident {
    /// As it is now; zero for a process that has ended.
    pub fn of(pid: u32) -> Resident {
        let children = below(pid).into_iter().map(resident_bytes).sum();
        Resident { host: resident_bytes(pid), children }
    }

    pub fn or_more(self, other: Resident) -> Resident {
        Resident { host: self.host.max(other.host), children: self.children.max(other.children) }
    }

    pub fn sum(self) -> u64 {
        self.host + self.children
    }
}

/// All processes below one.
fn below(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let direct: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    let further: Vec<u32> = direct.iter().flat_map(|child| below(*child)).collect();
    [direct, further].concat()
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_are_told_apart() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let now = Resident::of(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(now.host > 1 << 20 && now.children > 0, "{now:?}");
        assert!(now.children < now.host, "{now:?}");
    }
}
