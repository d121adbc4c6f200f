//! How bytes become a component: read when their turn has come, compiled within bounds, given up when nobody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::error::ChangeError;
use super::lanes::Lane;
use super::under_way::Changes;
use crate::base::ComponentHash;
use crate::record::{By, Event};
use crate::sandbox::{Component, ComponentError, LoadError};

/// A component that is to be loaded.
pub struct Source<E> {
    pub hash: ComponentHash,
    pub size: u64,
    /// Reads it, where that may block. Called once for each lane that it comes to, so that no more components are in
    /// memory than are compiled.
    read: Arc<dyn Fn() -> Result<Bytes, E> + Send + Sync>,
}

impl<E> Source<E> {
    pub fn new(hash: ComponentHash, size: u64, read: impl Fn() -> Result<Bytes, E> + Send + Sync + 'static) -> Self {
        Source { hash, size, read: Arc::new(read) }
    }
}

impl Source<ChangeError> {
    /// What is in memory anyway.
    pub fn bytes(hash: ComponentHash, bytes: Bytes) -> Source<ChangeError> {
        Source::new(hash, bytes.len() as u64, move || Ok(bytes.clone()))
    }
}

/// The hash of a component. A large one takes tens of milliseconds: not on a thread of the runtime.
pub async fn hash_of(bytes: &Bytes) -> Result<ComponentHash, ChangeError> {
    let bytes = bytes.clone();
    // An error means that the runtime ends.
    crate::record::blocking(move || ComponentHash::of(&bytes)).await.map_err(|_| ChangeError::Stopping)
}

/// Who loads which component: one at a time, so that copies of a slow one do not take the turns of others while they wait
/// for it.
#[derive(Clone, Default)]
pub struct Loading(Arc<Mutex<HashMap<ComponentHash, Weak<tokio::sync::Mutex<()>>>>>);

impl Loading {
    fn of(&self, hash: ComponentHash) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, one| one.strong_count() > 0);
        if let Some(one) = all.get(&hash).and_then(Weak::upgrade) {
            return one;
        }
        let one = Arc::default();
        all.insert(hash, Arc::downgrade(&one));
        one
    }
}

/// Dropped with the future that waits: then the compiler is ended.
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Changes {
    /// Checks and compiles a component, when it is its turn. Dropped half way, its compiler is ended.
    ///
    /// # Errors
    /// What reading it led to, and [`ChangeError`]. A component that uses up the last lane's time or memory is banned.
    pub async fn load<E>(&self, source: Source<E>, by: By) -> Result<(Component, Bytes), E>
    where
        E: From<ChangeError> + Send + 'static,
    {
        let (hash, insist) = (source.hash, by == By::Operator);
        let one = self.loading.of(hash);
        let _alone = tokio::select! {
            alone = one.lock() => alone,
            () = self.stopped() => return Err(ChangeError::Stopping.into()),
        };
        let mut lane = Lane::first(source.size, self.services.sandbox.is_compiled(hash));
        loop {
            let why = match self.load_in(lane, &source, insist).await? {
                Ok(loaded) => return Ok(loaded),
                Err(LoadError::Component(error)) => return Err(ChangeError::from(error).into()),
                Err(LoadError::Abandoned) => return Err(ChangeError::Stopping.into()),
                Err(error @ LoadError::NoRoom(_)) => return Err(ChangeError::NoRoom(error.to_string()).into()),
                Err(LoadError::NoCompiler(why)) => return Err(ChangeError::NoCompiler(why).into()),
                Err(LoadError::Exceeded(why)) => why,
            };
            if let Some(next) = lane.next() {
                self.services.recorder.emit(Event::CompilationSlow { component: hash, why });
                lane = next;
                continue;
            }
            // What an operator asks for is not tried again by itself anyway.
            if !insist {
                self.services.sandbox.ban(hash, &why);
                self.services.recorder.emit(Event::ComponentBanned { component: hash, why: why.clone() });
            }
            return Err(ChangeError::from(ComponentError::NotCompiled(why)).into());
        }
    }

    async fn load_in<E>(
        &self,
        lane: Lane,
        source: &Source<E>,
        insist: bool,
    ) -> Result<Result<(Component, Bytes), LoadError>, E>
    where
        E: From<ChangeError> + Send + 'static,
    {
        let stopping = || E::from(ChangeError::Stopping);
        let turn = tokio::select! {
            turn = self.compiling.turn(lane, insist) => turn,
            () = self.stopped() => return Err(stopping()),
        };
        let _waits = Waits(turn.terms.abandoned.clone());
        let (sandbox, read) = (self.services.sandbox.clone(), source.read.clone());
        let loading = crate::record::blocking(move || {
            let bytes = read()?;
            let loaded = sandbox.load_on(&bytes, &turn.terms).map(|component| (component, bytes));
            // Its turn lasts as long as its compiler, whoever waits.
            drop(turn);
            Ok(loaded)
        });
        let loaded = tokio::select! {
            loaded = loading => loaded,
            () = self.stopped() => return Err(stopping()),
        };
        loaded.unwrap_or_else(|error| {
            // A fault of the host: nothing is known of the component.
            Ok(Err(LoadError::NoCompiler(format!("it gave up: {error}"))))
        })
    }
}
