//! `paguro doctor`: looks at what a host depends on, and says what to do about what is wrong.

use std::path::Path;

use super::finding::{Finding, FindingKind};
use super::host::Host;
use super::supervision::{ailing_worker, fallen_worker};
use super::wire::DoctorInfo;
use crate::base::bounds;
use crate::base::units::show_size;
use crate::record::{Event, Recorder};
use crate::runtime::Standing;

/// Below this a disk is nearly full: snapshots of a busy host take that much in hours.
const DISK_BYTES_LOW: u64 = 1 << 30;

impl Host {
    /// What `paguro doctor` shows.
    pub async fn doctor(&self) -> Vec<DoctorInfo> {
        examine(self).await
    }
}

pub async fn examine(host: &Host) -> Vec<DoctorInfo> {
    let database = host.database().clone();
    let verified = crate::record::blocking(move || database.verify_ledger()).await;
    let mut found = vec![match verified {
        Ok(Ok(entries)) => {
            let trimmed = match host.database().ledger_trimmed() {
                Ok(trimmed) if trimmed > 0 => format!(" from entry {} on, where it was trimmed", trimmed + 1),
                _ => String::new(),
            };
            let entries = if entries == 1 { "1 entry".to_string() } else { format!("{entries} entries") };
            ok("ledger", format!("{entries}, the chain is whole{trimmed}"))
        }
        Ok(Err(broken)) => error(
            "ledger",
            broken.to_string(),
            "keep a copy of the state directory; something changed the database by hand",
        ),
        Err(failed) => error("ledger", failed.to_string(), "run it again"),
    }];
    let (state, tree) = (host.state_path.clone(), host.directory());
    // On a thread of its own: a file system that hangs must not take one of the host's.
    let looking =
        async { host.examining.lock().await.run(bounds::GRANT_TIME, move || (disk(&state), directory(&tree))).await };
    let hangs = || {
        error("disk", "a file system does not answer".to_string(), "look at the mounts of the directory and the state")
    };
    let (disk, directory) = looking.await.map_or_else(|| (hangs(), None), |(disk, directory)| (disk, Some(directory)));
    found.push(disk);
    found.push(instances(host));
    found.push(memory(host));
    let counted = host.recorder().metrics().events().into_iter();
    let failed: u64 = counted
        .filter(|(kind, _)| matches!(*kind, "database-failed" | "snapshot-failed"))
        .map(|(_, count)| count)
        .sum();
    found.push(match failed {
        0 => ok("database", "every write succeeded since the start".to_string()),
        n => warn("database", format!("{n} writes failed since the start"), "`paguro events` says which and why"),
    });
    found.push(faults(host.recorder()));
    let problems = host.problems();
    found.extend(problems.iter().take(bounds::FINDINGS_MAX).map(of_the_directory));
    found.extend(more("directory", problems.len(), "files cannot be used", "mend those above first"));
    let banned = host.services.sandbox.banned();
    for (component, why) in banned.iter().take(bounds::FINDINGS_MAX) {
        found.push(warn(
            &format!("component {}", component.short()),
            format!("is not compiled any more: {why}"),
            "`paguro check FILE` compiles it once more; a file that changes is tried by itself",
        ));
    }
    found.extend(more("components", banned.len(), "are not compiled", "`paguro check FILE` compiles one once more"));
    found.extend(directory);
    let (mut isolated, mut down, mut ailing) = (0, 0, 0);
    let fallen = host.fallen_supervisors().await;
    for problem in fallen.iter().take(bounds::FINDINGS_MAX) {
        found.push(error(&format!("supervisor {}", problem.of), problem.why.clone(), &problem.help));
    }
    found.extend(more("supervisors", fallen.len(), "do not run", "`paguro health` names them"));
    let names: Vec<String> = fallen.iter().map(|problem| problem.of.clone()).collect();
    let mut pages = host.services.registry.pages();
    while let Some(page) = pages.next().await {
        for worker in &page {
            let fell = fallen_worker(worker, &names);
            let count = if fell.is_some() { &mut down } else { &mut ailing };
            if let Some(problem) = fell.or_else(|| ailing_worker(worker)) {
                *count += 1;
                if *count > bounds::FINDINGS_MAX {
                    continue;
                }
                found.push(warn(&format!("worker {}", problem.of), problem.why, &problem.help));
            }
            let Standing::Isolated(why) = worker.status().standing else { continue };
            isolated += 1;
            if isolated <= bounds::FINDINGS_MAX {
                let name = worker.name();
                let help = format!("`paguro logs {name}`, then `paguro start {name}` or a new file");
                found.push(warn(&format!("worker {name}"), format!("isolated: {why}"), &help));
            }
        }
    }
    found.extend(more("workers", down, "do not run", "`paguro health --all` lists all"));
    found.extend(more("workers", ailing, "are not well", "`paguro health --all` lists all"));
    found.extend(more("workers", isolated, "are isolated", "`paguro health` counts them"));
    found
}

fn of_the_directory(finding: &Finding) -> DoctorInfo {
    let detail = format!("{}: {}", finding.path, finding.message);
    let help = |otherwise: &str| if finding.help.is_empty() { otherwise.to_string() } else { finding.help.clone() };
    match finding.kind {
        FindingKind::Waiting => ok("directory", detail),
        FindingKind::Loading => warn("directory", detail, "wait: `paguro ps` shows it when it runs"),
        FindingKind::Warning => warn("directory", detail, &help("mend the file")),
        FindingKind::Refused => warn("directory", detail, &help("mend or remove the file")),
        FindingKind::Unseen => error("directory", detail, &help("what runs goes on; nothing new is taken")),
    }
}

/// Whether the host's own code panicked.
fn faults(recorder: &Recorder) -> DoctorInfo {
    let fault = |event: &Event| match event {
        Event::HostFault { part, fault } => Some(format!("{part}: {fault}")),
        Event::HostBroken { why } => Some(why.clone()),
        Event::WorkerExited { worker, reason, .. } | Event::WorkerStartFailed { worker, reason, .. } => {
            reason.is_host_fault().then(|| format!("{worker}: {reason}"))
        }
        _ => None,
    };
    let (mut events, mut count, mut last, mut is_broken) = (recorder.events().follow(0), 0, None, false);
    while let Some(next) = events.try_next() {
        let Ok(event) = next else { continue };
        is_broken |= matches!(event.item, Event::HostBroken { .. });
        if let Some(found) = fault(&event.item) {
            (count, last) = (count + 1, Some(found));
        }
    }
    let Some(last) = last else { return ok("host", "no fault of its own since the start".to_string()) };
    let detail = format!("{count} faults of its own since the start, the last in {last}");
    let help = "`paguro events` shows each with its backtrace: please report it; `paguro check` looks at a component";
    if is_broken { error("host", detail, help) } else { warn("host", detail, help) }
}

/// What is said of those that are not listed.
fn more(what: &str, found: usize, say: &str, help: &str) -> Option<DoctorInfo> {
    let more = found.checked_sub(bounds::FINDINGS_MAX).filter(|more| *more > 0)?;
    Some(warn(what, format!("{more} more {say}"), help))
}

fn disk(path: &Path) -> DoctorInfo {
    match rustix::fs::statvfs(path) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{} free in {}", show_size(free), path.display());
            if free < DISK_BYTES_LOW {
                warn("disk", detail, "make room: a full disk stops snapshots and upgrades")
            } else {
                ok("disk", detail)
            }
        }
        Err(failed) => error("disk", format!("{}: {failed}", path.display()), "is the state directory still there?"),
    }
}

/// Whoever can write there can give a worker whatever this user may do.
fn directory(path: &Path) -> DoctorInfo {
    use std::os::unix::fs::MetadataExt;
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(found) if found.mode() & 0o022 != 0 => warn(
            "directory",
            format!("{shown} can be written by others (mode {:o})", found.mode() & 0o777),
            "whoever puts a worker there chooses its grants: `chmod go-w` it",
        ),
        Ok(_) => ok("directory", format!("{shown} can be written by its owner alone")),
        Err(failed) => error("directory", format!("{shown}: {failed}"), "what runs goes on; nothing new is taken"),
    }
}

/// From this part of the account on it is nearly full: what comes next may be refused.
const MEMORY_NEARLY_FULL: f64 = 0.8;

/// What guests, clients and files make the host keep.
fn memory(host: &Host) -> DoctorInfo {
    let memory = host.memory();
    let by: Vec<String> = memory
        .by
        .iter()
        .filter(|(_, bytes)| **bytes > 0)
        .map(|(word, bytes)| format!("{word} {}", show_size(*bytes)))
        .collect();
    let detail = format!(
        "{} of {} kept ({}), most below {}: {}; {} requests refused",
        show_size(memory.used),
        show_size(memory.max),
        if by.is_empty() { "nothing".to_string() } else { by.join(", ") },
        memory.holder,
        show_size(memory.holder_used),
        memory.refused
    );
    if memory.used as f64 >= memory.max as f64 * MEMORY_NEARLY_FULL {
        warn(
            "memory",
            detail,
            "`paguro events` says what is refused; stop what fills it, or give more with `paguro up --memory`",
        )
    } else {
        ok("memory", detail)
    }
}

/// How many instances are live, and how many may be.
fn instances(host: &Host) -> DoctorInfo {
    let residents = &host.services.residents;
    let (live, max, waiting) = (residents.live(), residents.max(), residents.waiting());
    let workers = host.services.registry.count();
    let asleep = show_size(residents.asleep_bytes());
    let asleep_max = show_size(residents.asleep_bytes_max());
    let lowered = match residents.configured() {
        configured if configured > max => format!(" (the system refused more; {configured} were reckoned with)"),
        _ => String::new(),
    };
    let detail = format!(
        "{live} live of at most {max}{lowered}, for {workers} workers; {waiting} wait for a place; states of those that \
         hibernate take {asleep} of {asleep_max}"
    );
    if waiting > 0 {
        let help = "workers that export `state` hibernate to make room, others cannot; more memory, or \
                    `sysctl vm.max_map_count=1048576` and a new start, makes more places";
        warn("instances", detail, help)
    } else {
        ok("instances", detail)
    }
}

fn ok(what: &str, detail: String) -> DoctorInfo {
    DoctorInfo { what: what.to_string(), verdict: "ok".to_string(), detail, help: String::new() }
}

fn warn(what: &str, detail: String, help: &str) -> DoctorInfo {
    DoctorInfo { what: what.to_string(), verdict: "warn".to_string(), detail, help: help.to_string() }
}

fn error(what: &str, detail: String, help: &str) -> DoctorInfo {
    DoctorInfo { what: what.to_string(), verdict: "error".to_string(), detail, help: help.to_string() }
}
