//! Files by race: names in the tree that turn from one sort of file into another while the host looks.

mod step;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paguro_tests::guest;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use self::step::{Plan, Sort, Step};
use crate::http::{Request, word};
use crate::run::{Kind, Run};
use crate::site::Site;

pub struct Files;

impl Kind for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn prepare(&self, site: &Site) {
        fs::create_dir_all(site.path("making")).expect("a directory");
        fs::write(site.path("worker.wasm"), guest("echo")).expect("a file");
        for name in ["a", "b", "folder/a"] {
            site.put(name, &guest("echo"));
        }
    }

    fn hands(&self) -> usize {
        3
    }

    fn work(&self, hand: usize, seed: u64, site: &Site, run: &Run) {
        let components = [Arc::new(guest("echo")), Arc::new(guest("limiter"))];
        for (number, step) in Plan::new(seed).enumerate().take_while(|_| run.goes_on()) {
            let outcome = match &step {
                Step::Put { name, sort, exchange } => {
                    let made = site.path(&format!("making/{hand}-{number}"));
                    let path = site.workers().join(name);
                    let put = make(site, *sort, &made, &components)
                        .and_then(|()| if *exchange { exchanged(&made, &path) } else { replaced(&made, &path) });
                    discard(&made);
                    tell(put)
                }
                Step::Turn { names, after_ms, sort } => {
                    let group = format!("{hand}-{number}");
                    let time = Duration::from_millis(u64::from(*after_ms));
                    tell(turn(site, run, &group, *names, time, *sort, &components))
                }
                Step::Remove { name } => tell(replaced_by_nothing(site, &site.workers().join(name), hand)),
                Step::Grow { name, pieces } => tell(grow(run, &site.workers().join(name), *pieces)),
                Step::Move { from, to } => tell(fs::rename(site.workers().join(from), site.workers().join(to))),
                Step::Ask { target } => {
                    let request = Request::get(target).within(Duration::from_secs(5));
                    word(&site.connect().and_then(|mut client| client.ask(&request, &|| run.goes_on())))
                }
                Step::Pause { ms } => {
                    run.pause(Duration::from_millis(u64::from(*ms)));
                    "done".to_string()
                }
            };
            run.tally.count(step.name(), outcome);
        }
    }
}

/// Puts new components, waits, and turns all of them into something else as quickly as it can be done.
fn turn(
    site: &Site,
    run: &Run,
    group: &str,
    names: u32,
    time: Duration,
    sort: Sort,
    components: &[Arc<Vec<u8>>; 2],
) -> io::Result<()> {
    let place = |name: u32| site.workers().join(format!("turn-{name}.wasm"));
    let made = |name: u32| site.path(&format!("making/{group}-{name}"));
    for name in 0..names {
        // A custom section: each is a component that the host has not compiled yet.
        let note = format!("{group}-{name}");
        let length = u8::try_from(note.len() + 1).unwrap_or(u8::MAX);
        let section = [&[0, length, length - 1], note.as_bytes()].concat();
        fs::write(made(name), [components[1].as_slice(), &section].concat())?;
        replaced(&made(name), &place(name))?;
        discard(&made(name));
        make(site, sort, &made(name), components)?;
    }
    run.pause(time);
    for name in 0..names {
        replaced(&made(name), &place(name))?;
        discard(&made(name));
    }
    Ok(())
}

fn tell(done: io::Result<()>) -> String {
    done.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".to_string())
}

/// Makes a file of this sort, where nobody looks.
fn make(site: &Site, sort: Sort, path: &Path, components: &[Arc<Vec<u8>>; 2]) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    match sort {
        Sort::Component => fs::write(path, components[0].as_slice()),
        Sort::OtherComponent => fs::write(path, components[1].as_slice()),
        Sort::HalfComponent => fs::write(path, &components[0][..components[0].len() / 2]),
        Sort::Empty => File::create(path).map(drop),
        Sort::Settings => fs::write(path, "[limits]\nmemory = \"16MiB\"\n"),
        Sort::WrongSettings => fs::write(path, "[limits]\nmemori = 3\n\n[[[\n"),
        Sort::HugeSettings => fs::write(path, "#".repeat(2 << 20)),
        Sort::Fifo => Ok(mknodat(CWD, path, FileType::Fifo, mode, 0)?),
        Sort::Socket => UnixListener::bind(path).map(drop),
        Sort::Directory => fs::create_dir(path),
        Sort::Link => symlink(site.path("worker.wasm"), path),
        Sort::LinkToNothing => symlink("nothing", path),
        Sort::LinkToItself => symlink(path.file_name().unwrap_or_default(), path),
        Sort::LinkToFifo => {
            let fifo = site.path("making/fifo");
            let _ = mknodat(CWD, &fifo, FileType::Fifo, mode, 0);
            symlink(fifo, path)
        }
        Sort::LinkToDevice => symlink("/dev/zero", path),
        Sort::LinkToState => symlink(site.state().join("paguro.db"), path),
        Sort::LinkToTree => symlink(site.workers(), path),
        Sort::Sparse => File::create(path)?.set_len(1 << 40),
        Sort::SparseButSmall => File::create(path)?.set_len(100 << 20),
        Sort::Unreadable => {
            fs::write(path, components[0].as_slice())?;
            fs::set_permissions(path, Permissions::from_mode(0o000))
        }
    }
}

/// In the place of what is there, whatever that is.
fn replaced(made: &Path, path: &Path) -> io::Result<()> {
    match fs::rename(made, path) {
        // A file does not replace a directory, nor the other way round.
        Err(_) if path.symlink_metadata().is_ok() => exchanged(made, path),
        result => result,
    }
}

/// The two change places in one step.
fn exchanged(made: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, made, CWD, path, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::NOENT) => fs::rename(made, path),
        result => Ok(result?),
    }
}

fn replaced_by_nothing(site: &Site, path: &Path, hand: usize) -> io::Result<()> {
    let away: PathBuf = site.path(&format!("making/away-{hand}"));
    let moved = fs::rename(path, &away);
    discard(&away);
    moved
}

fn discard(path: &Path) {
    if fs::remove_file(path).is_err() {
        let _ = fs::remove_dir_all(path);
    }
}

/// Writes to a file that is there, piece by piece.
fn grow(run: &Run, path: &Path, pieces: u32) -> io::Result<()> {
    // A pipe that nobody reads would keep the hand, and a device would fill the machine.
    if !path.symlink_metadata()?.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    for _ in 0..pieces {
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        file.write_all(&[0; 4_096])?;
        run.pause(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_seeds() {
        crate::plan::check(Plan::new, Step::name, Step::NAMES);
        let sorts = |step: &Step| if let Step::Put { sort, .. } = step { sort.name() } else { "none" };
        let words: Vec<&str> = Sort::ALL.iter().map(|sort| sort.name()).chain(["none"]).collect();
        crate::plan::check(Plan::new, sorts, &words);
    }

    #[test]
    fn every_sort_can_be_made_and_takes_any_others_place() {
        let site = Site::new(2);
        fs::create_dir_all(site.path("making")).unwrap();
        let components = [Arc::new(b"one".to_vec()), Arc::new(b"other".to_vec())];
        let path = site.path("workers/x");
        for (number, sort) in Sort::ALL.into_iter().enumerate() {
            let made = site.path(&format!("making/{number}"));
            make(&site, sort, &made, &components).unwrap_or_else(|error| panic!("{sort:?}: {error}"));
            replaced(&made, &path).unwrap_or_else(|error| panic!("{sort:?}: {error}"));
            discard(&made);
            assert!(path.symlink_metadata().is_ok(), "{sort:?}");
        }
    }
}
