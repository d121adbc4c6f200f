//! The grants of workers: opened before anything uses them, kept while the settings say the same, looked at again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Beside, Keeper, in_time};
use crate::base::{Incarnation, Name, bounds};
use crate::control::directory::{Doubt, Fingerprint, Problem};
use crate::control::grants::{self, Ground, Known, Place, Refused, Since, Writable};
use crate::record::{Action, Change, Event, GrantedRecord};
use crate::runtime::spec::WorkerSettings;
use crate::sandbox::{Access, Grants};

/// What the keeper knows of grants.
pub(super) struct Granting {
    ground: Ground,
    /// Whatever was given for writing since the database was made; `None` until it is looked up.
    ever: Option<Ever>,
    /// By worker or template.
    given: BTreeMap<Name, Given>,
    /// What is given no more, and may be written still.
    leaving: Vec<Leaving>,
    /// Opens under way: one of a hanging file system holds up its own worker alone.
    opening: BTreeMap<Name, Beside>,
    /// Reads what was given in earlier runs.
    recalling: Beside,
    rechecking: Beside,
    /// Workers whose grants did not answer when they were looked at again: left out for as long as they do not.
    stuck: BTreeMap<Name, Beside>,
    judging: Beside,
    /// Refused, and why.
    pub refused: BTreeMap<Name, String>,
    /// The path of one of its grants leads elsewhere by now.
    pub moved: BTreeMap<Name, PathBuf>,
}

struct Ever {
    writable: Arc<Vec<Writable>>,
    forgotten: bool,
    /// Those whose paths did not answer yet, and the file systems of each.
    unseen: BTreeMap<usize, u64>,
    seen: mpsc::Receiver<(usize, Vec<Place>)>,
}

impl Ever {
    /// Begins to look for each: by its file system, so that one that hangs holds up no other.
    fn of(records: Vec<GrantedRecord>) -> Ever {
        let writable: Vec<Writable> = records.into_iter().map(Writable::from).collect();
        let mut systems: BTreeMap<u64, Vec<(usize, Writable)>> = BTreeMap::new();
        for (at, given) in writable.iter().enumerate() {
            systems.entry(given.identity.device).or_default().push((at, given.clone()));
        }
        let unseen = writable.iter().enumerate().map(|(at, given)| (at, given.identity.device)).collect();
        // Room for all there are: none waits for it.
        let (tell, seen) = mpsc::channel(writable.len().max(1));
        for given in systems.into_values() {
            let tell = tell.clone();
            // Once for each in the life of a host. Where no thread is to be had it stays unseen.
            let _begun = Beside::default().begin(move || {
                for found in grants::recall(given) {
                    if tell.try_send(found).is_err() {
                        return;
                    }
                }
            });
        }
        let forgotten = writable.len() > bounds::GRANTED_MAX;
        Ever { writable: Arc::new(writable), forgotten, unseen, seen }
    }

    async fn all_seen(&mut self) {
        while !self.unseen.is_empty()
            && let Some((at, reach)) = self.seen.recv().await
        {
            self.note(at, reach);
        }
    }

    fn note(&mut self, at: usize, reach: Vec<Place>) {
        self.unseen.remove(&at);
        if let Some(given) = Arc::make_mut(&mut self.writable).get_mut(at) {
            given.reach = reach;
        }
    }
}

struct Given {
    /// What it can write.
    writable: Vec<Writable>,
    /// Its settings file as it was then.
    file: Option<Fingerprint>,
}

/// Instances that run on with what they were given, until each has ended.
struct Leaving {
    writable: Vec<Writable>,
    instances: Vec<(Name, Incarnation)>,
}

impl Granting {
    pub fn new(tree: PathBuf, named: PathBuf, state: PathBuf) -> Granting {
        Granting {
            ground: Ground { tree, named, state },
            ever: None,
            given: BTreeMap::new(),
            leaving: Vec::new(),
            opening: BTreeMap::new(),
            recalling: Beside::default(),
            rechecking: Beside::default(),
            stuck: BTreeMap::new(),
            judging: Beside::default(),
            refused: BTreeMap::new(),
            moved: BTreeMap::new(),
        }
    }

    /// The directory of workers is another. What was given stays as it was opened.
    pub fn move_to(&mut self, tree: PathBuf) {
        self.ground.tree = tree;
        // What looks at the one before, and may hang there.
        (self.judging, self.rechecking) = Default::default();
        self.opening.clear();
        self.stuck.clear();
    }

    /// Forgets workers that are not there any more, but for what they were given.
    pub fn retain(&mut self, is_there: impl Fn(&Name) -> bool) {
        self.refused.retain(|name, _| is_there(name));
        self.moved.retain(|name, _| is_there(name));
        self.opening.retain(|name, opening| is_there(name) || opening.is_busy());
    }

    /// Workers whose grants do not answer.
    pub fn stuck(&self) -> impl Iterator<Item = &Name> {
        self.stuck.iter().filter(|(_, looking)| looking.is_busy()).map(|(name, _)| name)
    }
}

impl Keeper {
    /// Opens what the settings grant, unless `kept` has it. `false`: it cannot be given, and that is reported once.
    pub(super) async fn grant(&mut self, name: &Name, settings: &mut WorkerSettings, kept: &Grants) -> bool {
        if settings.grants.directories.is_empty() {
            self.granting.refused.remove(name);
            self.granting.moved.remove(name);
            self.give_no_more(name, &[]);
            return true;
        }
        let known = self.known_writable().await;
        let (ground, wanted, kept) = (self.granting.ground.clone(), settings.grants.clone(), kept.clone());
        let opening = self.granting.opening.entry(name.clone()).or_default();
        let open = move || grants::open(&ground, &wanted, &kept, &known);
        let opened = match opening.run(bounds::GRANT_TIME, open).await {
            Some(Ok(opened)) => opened,
            Some(Err(refused)) => return self.refuse_grants(name, refused),
            None => return self.refuse_grants(name, late()),
        };
        if let Err(refused) = self.remember(&opened.writable).await {
            return self.refuse_grants(name, refused);
        }
        settings.grants = opened.grants;
        let path = self.settings_path(name);
        let given = Given { writable: opened.writable, file: self.said.settings_files.get(&path).copied() };
        self.give_no_more(name, &given.writable);
        self.granting.given.insert(name.clone(), given);
        self.granting.refused.remove(name);
        self.granting.moved.remove(name);
        true
    }

    /// Written before anything is given: a start of the host has to know who could make links, and where. What could
    /// not be written is not known either, so that the next look writes it.
    async fn remember(&mut self, writable: &[Writable]) -> Result<(), Refused> {
        let Some(ever) = &self.granting.ever else { return Err(not_known()) };
        let new: Vec<Writable> = writable.iter().filter(|given| !ever.writable.contains(given)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let record = |given: &Writable| {
            Change::Granted(GrantedRecord {
                path: given.path.to_string_lossy().into_owned(),
                device: given.identity.device,
                inode: given.identity.inode,
            })
        };
        if let Err(error) = self.services.database.commit(new.iter().map(record).collect()).await {
            self.database_failed("write what is granted", error.to_string());
            return Err(not_written());
        }
        if let Some(ever) = &mut self.granting.ever {
            let all = Arc::make_mut(&mut ever.writable);
            all.extend(new);
            ever.forgotten |= all.len() > bounds::GRANTED_MAX;
        }
        Ok(())
    }

    /// What workers may write, or could.
    async fn known_writable(&mut self) -> Known {
        self.recall().await;
        let wants = |entry: &crate::control::directory::WorkerEntry| {
            let grants = entry.settings.as_ref().map(|settings| settings.grants.directories.clone());
            let writable = grants.unwrap_or_default().into_iter().filter(|grant| grant.access == Access::ReadWrite);
            writable.map(|grant| grant.host).collect::<Vec<_>>()
        };
        let wanted = self.said.workers.values().flat_map(wants).collect();
        match &self.granting.ever {
            Some(ever) => {
                let unseen = ever.unseen.values().copied().collect();
                Known { writable: ever.writable.to_vec(), wanted, unseen, forgotten: ever.forgotten }
            }
            // Not known: then every link may be a guest's.
            None => Known { wanted, forgotten: true, ..Known::default() },
        }
    }

    /// Looks up what was given before, once. Then looks for the directories themselves: what does not answer within
    /// [`bounds::GRANT_TIME`] is known by what it is alone, until it answers.
    async fn recall(&mut self) {
        if self.granting.ever.is_none() {
            let database = self.services.database.clone();
            let read = move || database.granted(bounds::GRANTED_MAX + 1);
            match self.granting.recalling.run(bounds::GRANT_TIME, read).await {
                Some(Ok(records)) => {
                    let mut ever = Ever::of(records);
                    // Out of time is as good: the rest comes later.
                    let _ = tokio::time::timeout(bounds::GRANT_TIME, ever.all_seen()).await;
                    self.granting.ever = Some(ever);
                }
                Some(Err(error)) => self.database_failed("read what was granted", error.to_string()),
                None => {}
            }
        }
        if let Some(ever) = &mut self.granting.ever {
            while let Ok((at, reach)) = ever.seen.try_recv() {
                ever.note(at, reach);
            }
        }
    }

    /// What a worker was given counts until the instances that have it ended: settings come before the restart.
    /// `but`: what they are given again.
    fn give_no_more(&mut self, name: &Name, but: &[Writable]) {
        let Some(Given { mut writable, .. }) = self.granting.given.remove(name) else { return };
        writable.retain(|writable| !but.contains(writable));
        let instances = self.instances(name);
        if !writable.is_empty() && !instances.is_empty() {
            self.granting.leaving.push(Leaving { writable, instances });
        }
    }

    /// Those that run of a worker, or of a template's children.
    fn instances(&self, name: &Name) -> Vec<(Name, Incarnation)> {
        let of_it = |worker: &Name| match self.templates.contains_key(name) {
            true => worker.parent() == name.parent(),
            false => worker == name,
        };
        let all = self.services.registry.all().into_iter().filter(|worker| of_it(worker.name()) && worker.lives());
        all.map(|worker| (worker.name().clone(), worker.status().incarnation)).collect()
    }

    /// Forgets what instances had that ended, and what workers had that are gone with their files.
    pub(super) fn forget_what_ended(&mut self) {
        let given = self.granting.given.keys();
        let is_there = |name: &Name| self.said.workers.contains_key(name) || self.said.is_held(name);
        for name in given.filter(|name| !is_there(name)).cloned().collect::<Vec<_>>() {
            self.give_no_more(&name, &[]);
        }
        let registry = &self.services.registry;
        let runs = |(name, incarnation): &(Name, Incarnation)| {
            registry.get(name).is_some_and(|worker| worker.lives() && worker.status().incarnation == *incarnation)
        };
        self.granting.leaving.retain(|leaving| leaving.instances.iter().any(runs));
    }

    fn settings_path(&self, name: &Name) -> PathBuf {
        let component = self.said.workers.get(name).map(|entry| entry.path.with_extension("toml"));
        component.unwrap_or_else(|| self.root.join(format!("{}.toml", name.as_str())))
    }

    /// Reports grants that cannot be given, once for as long as they are asked for.
    fn refuse_grants(&mut self, name: &Name, refused: Refused) -> bool {
        let Refused { message, help } = refused;
        if self.granting.refused.insert(name.clone(), message.clone()).as_ref() != Some(&message) {
            self.publish();
            let path = self.root.join(format!("{}.toml", name.as_str())).display().to_string();
            self.services.recorder.emit(Event::DirectoryProblem { path, message, help });
        }
        false
    }

    /// Files that a worker may change by another way than their paths are not taken.
    pub(super) async fn refuse_what_guests_may_write(&mut self) {
        if self.said.doubtful.is_empty() {
            return;
        }
        let known = self.known_writable().await;
        self.forget_what_ended();
        let Granting { given, leaving, .. } = &self.granting;
        let given = given.values().map(|given| &given.writable).chain(leaving.iter().map(|leaving| &leaving.writable));
        let given: Vec<Writable> = given.flatten().cloned().collect();
        if given.is_empty() && known.wanted.is_empty() && known.writable.is_empty() && !known.forgotten {
            return;
        }
        let (ground, doubtful) = (self.granting.ground.clone(), self.said.doubtful.clone());
        let judge = move || grants::in_doubt(&ground, &doubtful, &given, &known);
        let judged = self.granting.judging.run(bounds::GRANT_TIME, judge).await;
        // What nobody could judge in time is not taken.
        let every = || {
            let all = self.said.doubtful.iter();
            all.flat_map(|(name, files)| files.iter().map(|(path, doubt)| (name.clone(), path.clone(), *doubt)))
                .collect()
        };
        for (name, path, doubt) in judged.unwrap_or_else(every) {
            let (message, help) = match doubt {
                Doubt::SecondName => (
                    "has, or had, a second name (a hard link) on a file system where a worker can write",
                    "put a copy in its place: `cp FILE FILE.new && mv FILE.new FILE`",
                ),
                Doubt::Link => (
                    "is a symbolic link through a directory where a worker can write",
                    "put a copy of the file in its place",
                ),
            };
            let problem = Problem {
                path,
                place: None,
                name: Some(name.clone()),
                message: message.to_string(),
                help: help.to_string(),
                is_warning: false,
            };
            self.said.problems.push(problem);
            self.said.held.insert(name);
        }
    }

    /// Looks at what is given again: an operator can move directories and mounts at any time.
    pub(super) async fn recheck_grants(&mut self) {
        let mut grants: BTreeMap<Name, Grants> = BTreeMap::new();
        for name in self.granting.given.keys() {
            if let Some(worker) = self.services.registry.get(name) {
                grants.insert(name.clone(), worker.settings().grants.clone());
            } else if let Some(held) = self.templates.get(name) {
                grants.insert(name.clone(), held.wanted.settings.grants.clone());
            }
        }
        self.granting.stuck.retain(|_, looking| looking.is_busy());
        grants.retain(|name, _| !self.granting.stuck.contains_key(name));
        let checked = self.look_again(grants).await;
        for (name, since) in checked {
            match since {
                Since::Same => drop(self.granting.moved.remove(&name)),
                Since::Moved(path) => self.grant_moved(&name, path).await,
                Since::Refused(refused) => self.take_back(&name, refused).await,
            }
        }
    }

    /// One after another, and each is told as it is found: where one hangs it is known which, and the next look leaves it
    /// out.
    async fn look_again(&mut self, grants: BTreeMap<Name, Grants>) -> Vec<(Name, Since)> {
        let mut names = grants.keys().cloned().collect::<Vec<_>>().into_iter();
        let ground = self.granting.ground.clone();
        // Room for all there are: none waits for it.
        let (tell, mut told) = mpsc::channel(grants.len().max(1));
        let recheck = move || {
            for (name, grants) in grants {
                if tell.try_send((name, grants::recheck(&ground, &grants))).is_err() {
                    return;
                }
            }
        };
        let Some(_begun) = self.granting.rechecking.begin(recheck) else { return Vec::new() };
        let mut checked = Vec::new();
        let all = async {
            while let Some(found) = told.recv().await {
                checked.push(found);
            }
        };
        let in_time = tokio::time::timeout(bounds::GRANT_TIME, all).await.is_ok();
        if !in_time && let Some(name) = names.nth(checked.len()) {
            let looking = std::mem::take(&mut self.granting.rechecking);
            self.granting.stuck.insert(name.clone(), looking);
            self.publish();
            let Refused { message, help } = late();
            let path = self.settings_path(&name).display().to_string();
            self.services.recorder.emit(Event::DirectoryProblem { path, message, help });
        }
        checked
    }

    /// The worker keeps what it was given. Who writes its settings anew gets what the path leads to now.
    async fn grant_moved(&mut self, name: &Name, path: PathBuf) {
        let now = self.said.settings_files.get(&self.settings_path(name)).copied();
        let before = self.granting.given.get(name).and_then(|given| given.file);
        if now.is_some() && now != before && !self.said.is_held(name) {
            return self.grant_anew(name).await;
        }
        if self.granting.moved.insert(name.clone(), path.clone()).as_ref() != Some(&path) {
            // Before it is told: whoever hears of it may ask.
            self.publish();
            let (message, help) = moved(&path);
            let path = self.settings_path(name).display().to_string();
            self.services.recorder.emit(Event::DirectoryProblem { path, message, help });
        }
    }

    async fn grant_anew(&mut self, name: &Name) {
        let Some(worker) = self.services.registry.get(name) else {
            return self.grant_template_anew(name).await;
        };
        let mut settings = (*worker.settings()).clone();
        if !self.grant(name, &mut settings, &Grants::default()).await {
            return;
        }
        let configured = self.tree.configure_worker(&worker, settings.into()).await;
        self.tell(name, configured);
        let entry =
            self.entry(name, Action::SettingsChanged, worker.status().component, "its granted directories opened anew");
        if let Err(error) = self.services.database.commit(vec![entry]).await {
            self.database_failed("write that settings changed", error.to_string());
        }
        let (in_place, restarted) = (Vec::new(), vec!["grants"]);
        self.services.recorder.emit(Event::SettingsChanged { name: name.clone(), in_place, restarted });
        if worker.lives()
            && let Some(restarted) = in_time(self.tree.restart_child(name)).await
        {
            self.tell(name, restarted.map(drop));
        }
    }

    async fn grant_template_anew(&mut self, name: &Name) {
        let Some(mut wanted) = self.templates.get(name).map(|held| held.wanted.clone()) else { return };
        if self.grant(name, &mut wanted.settings, &Grants::default()).await {
            self.renew_template(name.clone(), wanted);
        }
    }

    /// What it was given may not be given any more: it stops, and starts when it may.
    async fn take_back(&mut self, name: &Name, refused: Refused) {
        let detail = refused.message.clone();
        self.refuse_grants(name, refused);
        if self.templates.contains_key(name) {
            return self.remove_template(name).await;
        }
        let Some(worker) = self.services.registry.get(name) else { return };
        let entry = self.entry(name, Action::Stopped, worker.status().component, &detail);
        if let Err(error) = self.services.database.commit(vec![entry]).await {
            self.database_failed("write that a worker was stopped", error.to_string());
        }
        if let Some(removed) = in_time(self.tree.remove(name)).await {
            self.tell(name, removed);
        }
    }
}

pub(super) fn late() -> Refused {
    let time = bounds::GRANT_TIME.as_secs();
    Refused {
        message: format!("a granted directory cannot be opened: its file system does not answer within {time} s"),
        help: "it is tried again; look at the mount with `stat -f DIR`".to_string(),
    }
}

fn not_known() -> Refused {
    Refused {
        message: "no directory can be granted: what was granted before cannot be read from the database".to_string(),
        help: "it is tried again; `paguro doctor` tells of the database".to_string(),
    }
}

fn not_written() -> Refused {
    Refused {
        message: "a directory cannot be granted: the database cannot write that it is".to_string(),
        help: "it is tried again; look for space on the disk of the host's state".to_string(),
    }
}

/// What is to be said of a path that leads elsewhere.
pub(super) fn moved(path: &std::path::Path) -> (String, String) {
    let path = path.display();
    (
        format!("the granted directory {path} was moved, removed or replaced: the worker keeps the one it was given"),
        "write the settings file anew (`touch` is enough) to give it what is there now".to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_of_an_earlier_run_that_hangs_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let record = |name: &str, device| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            GrantedRecord { path: path.display().to_string(), device, inode: 1 }
        };
        let records = vec![record("hangs", 1), record("well", 2), record("after", 1)];
        let hang = dir.path().join("hangs/.hang");
        std::fs::write(&hang, "").unwrap();
        let mut ever = Ever::of(records);
        let (at, reach) = ever.seen.recv().await.unwrap();
        ever.note(at, reach);
        assert_eq!(ever.writable.len(), 3, "all are known by what they are");
        assert_eq!(ever.unseen, BTreeMap::from([(0, 1), (2, 1)]));
        std::fs::remove_file(hang).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(60), ever.all_seen()).await.unwrap();
        assert!(ever.unseen.is_empty());
    }
}
