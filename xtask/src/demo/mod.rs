//! `cargo xtask demo`: the whole story on a real host with real components, as the true output of true
//! commands. A step whose outcome is not what it should be ends the demo with an error.

mod host;
mod stage;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{guests, paths, shell};
use host::Host;
use stage::Stage;

/// The guests that play a part, and what their files are called on stage.
const CAST: [(&str, &str); 6] = [
    ("counter-v1", "counter-v1.wasm"),
    ("counter-v2", "counter-v2.wasm"),
    ("fault-upgrade", "migration-traps.wasm"),
    ("fault-third", "third-message-traps.wasm"),
    ("orders", "orders.wasm"),
    ("inventory", "inventory.wasm"),
];

/// Written before the component is there, so that it holds from the start.
const COUNTER_TOML: &str = "[snapshot]\nmessages = 1   # save the state after every message\n";

pub fn run() -> Result<()> {
    let names: Vec<&str> = CAST.iter().map(|(guest, _)| *guest).collect();
    guests::build(&names)?;
    shell::build_host()?;
    let begun = Instant::now();
    let directory = fresh_directory()?;
    let stage = Stage::new(&directory);
    let host = Host::up(&stage)?;
    let outcome = story(&stage);
    let stopped = host.down();
    if outcome.is_err() {
        let log = directory.join("host.log");
        stage.aside(&format!("The host's log is {}.", log.display()));
    }
    outcome.and(stopped)?;
    farewell(&stage, begun);
    Ok(())
}

/// The scenes, in order.
fn story(stage: &Stage) -> Result<()> {
    drop_a_component(stage)?;
    call_it(stage)?;
    upgrade_it(stage)?;
    call_an_upgrade_off(stage)?;
    roll_an_upgrade_back(stage)?;
    crash_it(stage)?;
    look_around(stage)
}

fn drop_a_component(stage: &Stage) -> Result<()> {
    stage.scene("Drop a component into the directory, and it runs");
    stage.run("cp counter-v1.wasm workers/counter.wasm")?;
    stage.run("mkdir workers/shop && cp orders.wasm inventory.wasm workers/shop/")?;
    for worker in ["counter", "shop/orders", "shop/inventory"] {
        stage.until_running(worker, 0)?;
    }
    stage.run("paguro ps")?.says("counter")?.says("shop/inventory")?;
    Ok(())
}

fn call_it(stage: &Stage) -> Result<()> {
    stage.scene("Call it");
    stage.run("paguro call counter add")?.is("1")?;
    stage.run("paguro call counter '{\"add\": 40}'")?.is("41")?;
    Ok(())
}

fn upgrade_it(stage: &Stage) -> Result<()> {
    stage.scene("Upgrade it while it runs: version 2 counts by key, and the count is kept");
    stage.run("paguro upgrade counter counter-v2.wasm")?.says("revision 2")?;
    stage.run("paguro call counter get")?.is("41")?;
    let by_key = stage.run("paguro call counter '{\"get\": \"default\"}'")?;
    by_key.is("41")?;
    stage.run("paguro commit counter")?.says("committed")?;
    Ok(())
}

fn call_an_upgrade_off(stage: &Stage) -> Result<()> {
    stage.scene("An upgrade whose migration traps is called off, at no cost");
    stage.run_to("paguro upgrade counter migration-traps.wasm", 4)?.says("called off")?;
    stage.run("paguro call counter get")?.is("41")?;
    Ok(())
}

fn roll_an_upgrade_back(stage: &Stage) -> Result<()> {
    stage.scene("One that goes bad later rolls back by itself, and no message is lost");
    stage.run("paguro upgrade counter third-message-traps.wasm")?.says("in probation")?;
    stage.run("paguro call counter add")?.is("42")?;
    stage.run("paguro call counter add")?.is("43")?;
    stage.aside(
        "The next message traps the new revision. The old one comes back with its state and\n\
         handles all three; the third caller gets its answer as if nothing had been.",
    );
    stage.run("paguro call counter add")?.is("44")?;
    stage.run("paguro call counter get")?.is("44")?;
    stage.run("paguro history counter")?.says("rolled-back")?;
    Ok(())
}

fn crash_it(stage: &Stage) -> Result<()> {
    stage.scene("A worker that crashes is restarted, with its state");
    stage.run_to("paguro call counter crash", 1)?.says("trap")?;
    stage.until_running("counter", 1)?;
    stage.run("paguro call counter get")?.is("44")?;
    stage.run("paguro ps")?.says("counter")?;
    Ok(())
}

fn look_around(stage: &Stage) -> Result<()> {
    stage.scene("The tree, and every decision");
    stage.run("paguro tree")?.says("one-for-one")?.says("shop")?.says("orders")?;
    stage
        .run("paguro ledger --worker counter")?
        .says("upgrade-committed")?
        .says("upgrade-called-off")?
        .says("rolled-back")?
        .says("3 messages handed over")?;
    Ok(())
}

/// `target/demo`, emptied, with the components and an empty directory of workers.
fn fresh_directory() -> Result<PathBuf> {
    let directory = paths::root().join("target/demo");
    let socket = directory.join("workers/.paguro/paguro.sock");
    if UnixStream::connect(socket).is_ok() {
        bail!("a host still runs on target/demo/workers; stop it (Ctrl-C in its terminal) and try again");
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).context("cannot empty target/demo")?;
    }
    fs::create_dir_all(directory.join("workers"))?;
    fs::write(directory.join("workers/counter.toml"), COUNTER_TOML)?;
    for (guest, file) in CAST {
        fs::copy(paths::component(guest), directory.join(file))
            .with_context(|| format!("cannot copy the guest {guest}"))?;
    }
    Ok(directory)
}

fn farewell(stage: &Stage, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f32();
    stage.scene("Go on by hand");
    stage.aside(&format!("All as it should be, in {seconds:.1} s. The host is stopped; its directory is target/demo."));
    stage.say(
        "
  export PATH=\"$PWD/target/debug:$PATH\"
  cd target/demo
  paguro up > host.log 2>&1 &
  paguro call counter get                    # the counter goes on where it was
  paguro upgrade counter counter-v1.wasm     # back to version 1, with the state
  paguro events
  kill %1                                    # stop the host, in order",
    );
}
