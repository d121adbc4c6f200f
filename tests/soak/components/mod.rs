//! Components by shape: what compiles to much, holds much, nests deeply, is almost valid, or is not valid at all.
//!
//! Most are a real worker with something hostile behind it, so that nothing but the hostile part can be the reason
//! for which they are refused.

mod build;
mod shape;

use std::collections::VecDeque;
use std::time::Duration;

use paguro_tests::guest;

use self::shape::{Plan, Shape, Step, Way};
use crate::http::{Request, word};
use crate::run::{Kind, Run};
use crate::site::Site;

pub struct Components;

/// Files of it that lie in the tree at one time; the oldest goes when one more comes.
const FILES_MAX: usize = 6;
/// How long an answer is waited for. A component may take longer, and goes on without its client.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// The worker that is to be upgraded.
const TARGET: &str = "target";

impl Kind for Components {
    fn name(&self) -> &'static str {
        "components"
    }

    fn prepare(&self, site: &Site) {
        site.put(TARGET, &guest("counter-v1"));
    }

    fn hands(&self) -> usize {
        3
    }

    fn work(&self, hand: usize, seed: u64, site: &Site, run: &Run) {
        let sources = build::Sources::read();
        let mut files = VecDeque::new();
        for (number, Step { shape, way }) in Plan::new(seed).enumerate() {
            if !run.goes_on() {
                return;
            }
            let bytes = build::bytes(&shape, &sources);
            let outcome = match way {
                Way::File => drop_file(site, &mut files, &format!("hostile-{hand}-{number}"), &bytes),
                Way::Check => send(site, "/v1/check", &bytes, run),
                Way::CheckAgainst => send(site, &format!("/v1/check?against={TARGET}"), &bytes, run),
                Way::DryRun => send(site, &format!("/v1/workers/{TARGET}/upgrade?dry_run=true"), &bytes, run),
                Way::Upgrade => send(site, &format!("/v1/workers/{TARGET}/upgrade?probation_ms=200"), &bytes, run),
            };
            run.tally.count(shape.name(), format!("{} {outcome}", way.name()));
            if matches!(way, Way::File) {
                // A file is looked at when it has settled.
                run.pause(Duration::from_millis(300));
            }
        }
    }
}

fn send(site: &Site, target: &str, bytes: &[u8], run: &Run) -> String {
    let request = Request::post(target, bytes).within(ANSWER_TIME);
    let answer = site.connect().and_then(|mut client| client.ask(&request, &|| run.goes_on()));
    word(&answer)
}

fn drop_file(site: &Site, files: &mut VecDeque<String>, name: &str, bytes: &[u8]) -> String {
    if let Some(oldest) = if files.len() >= FILES_MAX { files.pop_front() } else { None } {
        let _ = std::fs::remove_file(site.workers().join(format!("{oldest}.wasm")));
    }
    files.push_back(name.to_string());
    match site.try_put(name, bytes) {
        Ok(()) => "put".to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_seeds() {
        crate::plan::check(Plan::new, |step| step.shape.name(), Shape::NAMES);
        crate::plan::check(Plan::new, |step| step.way.name(), Way::NAMES);
    }

    #[test]
    fn the_same_shape_gives_the_same_bytes() {
        let sources = build::Sources::read();
        for Step { shape, .. } in Plan::new(3).filter(|step| !step.shape.is_large()).take(60) {
            assert!(build::bytes(&shape, &sources) == build::bytes(&shape, &sources), "{shape:?}");
        }
    }
}
