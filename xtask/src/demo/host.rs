//! The host that the demo runs in the background, and its end.

use std::fs::File;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::stage::Stage;

/// How long a host may take to stop its three workers in order.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running `paguro up`. Killed when dropped, so that no error leaves one behind.
pub struct Host(Child);

impl Host {
    pub fn up(stage: &Stage) -> Result<Host> {
        stage.scene("A host on an empty directory");
        stage.show("paguro up > host.log 2>&1 &");
        let mut paguro = stage.paguro();
        let directory = paguro.get_current_dir().context("it runs somewhere")?;
        let log = File::create(directory.join("host.log"))?;
        paguro.arg("up").stdout(log.try_clone()?).stderr(log);
        let host = Host(paguro.spawn().context("cannot run paguro")?);
        stage.until_up().context("the host did not start; its log is target/demo/host.log")?;
        Ok(host)
    }

    /// Stops it in order, as Ctrl-C does.
    pub fn down(mut self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // One that has ended already shows in its exit status.
            let _ = kill_process(pid, Signal::INT);
        }
        let begun = Instant::now();
        loop {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the host did not end as it should ({status})"),
                None if begun.elapsed() > STOP_PATIENCE => bail!("the host does not stop"),
                None => sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
