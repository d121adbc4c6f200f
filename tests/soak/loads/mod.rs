//! Loads by sum: what each worker may do, done by many at once. No worker here is granted anything but children.

mod step;

use std::time::Duration;

use paguro_tests::guest;
use serde_json::json;

use self::step::{Plan, Step};
use crate::http::{Request, word};
use crate::run::{Kind, Run};
use crate::site::Site;

pub struct Loads;

/// Templates: children that keep a state, that keep none, and that wait for an answer that never comes.
const TEMPLATES: [(&str, &str); 3] = [("keys", "probe"), ("plain", "echo"), ("mute", "fault-mute")];

impl Kind for Loads {
    fn name(&self) -> &'static str {
        "loads"
    }

    fn prepare(&self, site: &Site) {
        for (template, component) in TEMPLATES {
            site.put(&format!("{template}/child"), &guest(component));
            site.write(
                &format!("{template}/supervisor.toml"),
                "strategy = \"simple-one-for-one\"\non-demand = true\nintensity = 1000000\n",
            );
        }
        site.put("sender", &guest("probe"));
        site.write("sender.toml", "[grants]\nchildren = true\n");
        site.put("crasher", &guest("probe"));
        site.put("upgraded", &guest("counter-v1"));
    }

    fn hands(&self) -> usize {
        3
    }

    fn work(&self, _: usize, seed: u64, site: &Site, run: &Run) {
        let mut client = None;
        for step in Plan::new(seed).take_while(|_| run.goes_on()) {
            for (target, body) in requests(&step) {
                let asked = match client.take().map_or_else(|| site.connect(), Ok) {
                    Err(error) => Err(error),
                    Ok(mut connected) => {
                        let request = Request::post(&target, &body).within(Duration::from_secs(5));
                        let answer = connected.ask(&request, &|| run.goes_on());
                        client = answer.is_ok().then_some(connected);
                        answer
                    }
                };
                run.tally.count(step.name(), word(&asked));
                if !run.goes_on() {
                    return;
                }
            }
        }
    }
}

/// What a step asks of the API, one after another.
fn requests(step: &Step) -> Vec<(String, Vec<u8>)> {
    let text = |bytes: u32| "x".repeat(bytes as usize);
    let to = |name: &str, verb: &str| format!("/v1/workers/{}/{verb}", name.replace('/', "%2F"));
    let tell = |name: &str, command: serde_json::Value| (to(name, "call?timeout_ms=2000"), command.to_string().into());
    match step {
        // It waits for one that never answers, so that what is sent to it waits as well.
        Step::CastsToOneThatWaits { key, bytes, count } => {
            let name = format!("keys/{key}");
            let waits = json!({ "early": [null, { "call": { "to": "mute/one", "body": "x", "timeout": 600_000 } }] });
            let mut all = vec![tell(&name, waits)];
            let cast = (to(&name, "cast"), json!(text(*bytes)).to_string().into_bytes());
            all.extend(std::iter::repeat_n(cast, *count as usize));
            all
        }
        Step::Timers { key, bytes, count, hibernate } => {
            let name = format!("keys/{key}");
            let timer = tell(&name, json!({ "after": [600_000, text(*bytes)] }));
            let mut all = vec![timer; *count as usize];
            all.extend(hibernate.then(|| tell(&name, json!("hibernate"))));
            all
        }
        Step::State { key, bytes } => {
            let name = format!("keys/{key}");
            vec![(to(&name, "cast"), json!(text(*bytes)).to_string().into_bytes()), tell(&name, json!("hibernate"))]
        }
        Step::NewKeys { template, first, count } => {
            (0..*count).map(|n| (to(&format!("{template}/n{}", first + n), "cast"), b"\"x\"".to_vec())).collect()
        }
        Step::Configuration { key, bytes } => {
            vec![(to(&format!("keys/c{key}"), "start"), json!({ "text": text(*bytes) }).to_string().into_bytes())]
        }
        Step::ChildByGuest { key, bytes } => {
            let child = json!({ "template": "keys", "key": format!("g{key}"), "config": { "text": text(*bytes) } });
            vec![tell("sender", json!({ "start-child": child }))]
        }
        Step::Crash { times } => vec![tell("crasher", json!("trap")); *times as usize],
        Step::StopAndStart { key } => {
            let name = format!("keys/{key}");
            ["start", "stop", "start"].map(|verb| (to(&name, verb), Vec::new())).into()
        }
        Step::Probation { bytes, casts } => {
            let upgrade = (to("upgraded", "upgrade?probation_ms=60000"), guest("counter-v2"));
            let cast = (to("upgraded", "cast"), json!(text(*bytes)).to_string().into_bytes());
            let mut all = vec![upgrade];
            all.extend(std::iter::repeat_n(cast, *casts as usize));
            all.push((to("upgraded", "rollback"), Vec::new()));
            all
        }
        Step::Busy { key, millions } => vec![tell(&format!("keys/{key}"), json!({ "busy": millions }))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_the_seeds() {
        crate::plan::check(Plan::new, Step::name, Step::NAMES);
    }

    #[test]
    fn a_step_is_so_many_requests() {
        let timers = requests(&Step::Timers { key: 7, bytes: 10, count: 3, hibernate: true });
        assert_eq!(timers.len(), 4);
        assert_eq!(timers[0].0, "/v1/workers/keys%2F7/call?timeout_ms=2000");
        assert_eq!(timers[0].1, br#"{"after":[600000,"xxxxxxxxxx"]}"#);
    }
}
