use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::expect;

use super::*;
use crate::runtime::spec::*;
use crate::sandbox::{Access, DirectoryGrant};

fn worker(text: &str) -> Result<WorkerSettings, String> {
    parse_worker(Path::new("workers/a.toml"), text).map_err(|error| error.to_string())
}

fn supervisor(text: &str) -> Result<SupervisorSettings, String> {
    parse_supervisor(Path::new("workers/supervisor.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_written_has_its_default() {
    assert_eq!(worker(""), Ok(WorkerSettings::default()));
    assert_eq!(supervisor("# nothing\n"), Ok(SupervisorSettings::default()));
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let text = |file| {
        let mut text = String::new();
        let mut section = "";
        for doc in reference().iter().filter(|doc| doc.file == file && !doc.default.starts_with('(')) {
            if doc.section != section {
                section = doc.section;
                text += &format!("[{section}]\n");
            }
            text += &format!("{} = {}\n", doc.key, doc.default);
        }
        text
    };
    assert_eq!(worker(&text(SettingsFile::Worker)), Ok(WorkerSettings::default()));
    assert_eq!(supervisor(&text(SettingsFile::Supervisor)), Ok(SupervisorSettings::default()));
    assert!(reference().iter().all(|doc| !doc.meaning.is_empty() && !doc.meaning.contains('\n')));
}

#[test]
fn every_key_of_a_worker_is_read() {
    let settings = worker(
        r#"
        restart = "transient"
        shutdown = "infinity"
        significant = true
        after = ["b", "c"]
        tier = "critical"
        hibernate-after = "1m"
        durability = "none"
        health-interval = "3s"
        [snapshot]
        messages = 10
        interval = "2s"
        [limits]
        memory = "1GiB"
        table-elements = 5_000
        fuel = 0xFFFF
        cpu = 50_000_000
        deadline = "1m 30s"
        start = "1s"
        payload = 1000
        state = "2MiB"
        mailbox = 7
        log-lines = 0
        [circuit-breaker]
        failures = 3
        window = "1s"
        recovery = "2s"
        trials = 4
        [rate]
        per-second = 10
        burst = 20
        caller-per-second = 5
        [config]
        when = 2026-01-01T00:00:00Z
        deep = { list = [1, 2.5, "x", true], b = {} }
        a = "ü"
        [grants]
        directories = [{ host = "data", guest = "/data", access = "read-write" }, { host = "/srv", guest = "/srv" }]
        environment = { B = "2", A = "1" }
        arguments = ["-v"]
        connect = ["127.0.0.1:80"]
        children = true
        [upgrade]
        probation = "0s"
        probation-messages = 5
        health-interval = "10ms"
        migrate = "7s"
        keep-messages = 3
        keep-bytes = "1KiB"
        on-rollback = "drop"
        "#,
    )
    .unwrap();
    assert_eq!(settings.restart, Some(Restart::Transient));
    assert_eq!(settings.shutdown, Shutdown::Infinity);
    assert!(settings.significant);
    assert_eq!(settings.after, ["b", "c"]);
    assert_eq!(settings.tier, Some(Tier::Critical));
    assert_eq!(settings.hibernate_after, Some(Duration::from_secs(60)));
    assert_eq!(settings.durability, Some(Durability::None));
    assert_eq!(settings.snapshot, SnapshotEvery { messages: 10, interval: Duration::from_secs(2) });
    assert_eq!(settings.limits.memory, 1 << 30);
    assert_eq!(settings.limits.table_elements, 5_000);
    assert_eq!(settings.health_interval, Duration::from_secs(3));
    assert_eq!(settings.limits.fuel, 0xFFFF);
    assert_eq!(settings.limits.cpu, Some(50_000_000));
    assert_eq!(settings.limits.deadline, Duration::from_secs(90));
    assert_eq!(settings.limits.start, Duration::from_secs(1));
    assert_eq!((settings.limits.payload, settings.limits.state), (1000, 2 << 20));
    assert_eq!((settings.limits.mailbox, settings.limits.log_lines), (7, 0));
    let breaker =
        BreakerSettings { failures: 3, window: Duration::from_secs(1), recovery: Duration::from_secs(2), trials: 4 };
    assert_eq!(settings.circuit_breaker, Some(breaker));
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    assert_eq!(settings.rate, RateLimits { messages: rate(10, 20), per_caller: rate(5, 5) });
    expect![[r#"{"a":"ü","deep":{"b":{},"list":[1,2.5,"x",true]},"when":"2026-01-01T00:00:00Z"}"#]]
        .assert_eq(&settings.config);
    let grant = |host: &str, guest: &str, access| DirectoryGrant {
        host: PathBuf::from(host),
        guest: guest.into(),
        access,
        opened: None,
    };
    assert_eq!(
        settings.grants.directories,
        [grant("workers/data", "/data", Access::ReadWrite), grant("/srv", "/srv", Access::Read)]
    );
    assert_eq!(settings.grants.environment, [("A".into(), "1".into()), ("B".into(), "2".into())]);
    assert_eq!(settings.grants.arguments, ["-v"]);
    assert!(settings.grants.children);
    assert_eq!(settings.grants.connect, ["127.0.0.1:80".parse().unwrap()]);
    assert_eq!(
        settings.upgrade,
        UpgradeSettings {
            probation: Duration::ZERO,
            probation_messages: Some(5),
            health_interval: Duration::from_millis(10),
            migrate: Duration::from_secs(7),
            keep_messages: 3,
            keep_bytes: 1024,
            on_rollback: OnRollback::Drop,
        }
    );
}

#[test]
fn an_empty_section_is_a_circuit_breaker_with_its_defaults() {
    assert_eq!(worker("[circuit-breaker]").unwrap().circuit_breaker, Some(BreakerSettings::default()));
    let text =
        |key: &str| reference().iter().find(|doc| doc.section == "circuit-breaker" && doc.key == key).unwrap().default;
    let BreakerSettings { failures, trials, .. } = BreakerSettings::default();
    assert!(text("failures").starts_with(&format!("({failures},")));
    assert_eq!(text("trials"), format!("({trials})"));
    assert_eq!((text("window"), text("recovery")), ("(\"10s\")", "(\"10s\")"));
}

#[test]
fn every_key_of_a_supervisor_is_read() {
    let settings = supervisor(
        r#"
        tier = "critical"
        strategy = "rest-for-one"
        intensity = 9
        period = "1m"
        order = ["b", "a"]
        auto-shutdown = "all-significant"
        on-demand = true
        new-keys = 50
        idle-stop = "90s"
        restart = "transient"
        shutdown = "30s"
        significant = true
        after = ["x"]
        [backoff]
        initial = "0s"
        max = "1s"
        factor = 3
        jitter-percent = 100
        healthy-after = "9s"
        [escalation]
        circuit-break = 1
        isolate = 2
        escalate = 3
        [circuit-breaker]
        failures = 3
        window = "1s"
        recovery = "2s"
        trials = 4
        [budget]
        memory = "1GiB"
        cpu = 5_000_000
        "#,
    );
    let seconds = Duration::from_secs;
    let expected = SupervisorSettings {
        tier: Tier::Critical,
        strategy: Strategy::RestForOne,
        intensity: 9,
        each_key: false,
        period: seconds(60),
        order: vec!["b".into(), "a".into()],
        auto_shutdown: AutoShutdown::AllSignificant,
        on_demand: true,
        new_keys: 50,
        idle_stop: Some(seconds(90)),
        backoff: Backoff {
            initial: Duration::ZERO,
            max: seconds(1),
            factor: 3,
            jitter_percent: 100,
            healthy_after: seconds(9),
        },
        escalation: Escalation { circuit_break: Some(1), isolate: Some(2), escalate: Some(3) },
        circuit_breaker: Some(BreakerSettings { failures: 3, window: seconds(1), recovery: seconds(2), trials: 4 }),
        budget: SubtreeBudget { memory: Some(1 << 30), cpu: Some(5_000_000) },
        child: SupervisorAsChild {
            restart: Restart::Transient,
            shutdown: Shutdown::Time(seconds(30)),
            significant: true,
            after: vec!["x".into()],
        },
    };
    assert_eq!(settings, Ok(expected));
}

#[test]
fn every_word_of_a_supervisor_is_known() {
    let of = |text: &str| supervisor(text).unwrap();
    for (word, strategy) in [
        ("one-for-one", Strategy::OneForOne),
        ("one-for-all", Strategy::OneForAll),
        ("rest-for-one", Strategy::RestForOne),
        ("simple-one-for-one", Strategy::SimpleOneForOne),
    ] {
        assert_eq!(of(&format!("strategy = '{word}'")).strategy, strategy);
    }
    for (word, auto) in [
        ("never", AutoShutdown::Never),
        ("any-significant", AutoShutdown::AnySignificant),
        ("all-significant", AutoShutdown::AllSignificant),
    ] {
        assert_eq!(of(&format!("auto-shutdown = '{word}'")).auto_shutdown, auto);
    }
    assert_eq!(of("shutdown = 'infinity'").child.shutdown, Shutdown::Infinity);
}

#[test]
fn a_tier_is_for_what_is_not_written() {
    let of = |text: &str| {
        let settings = supervisor(text).unwrap();
        (settings.tier, settings.strategy, settings.intensity, settings.period.as_secs(), settings.escalation.isolate)
    };
    let table = [
        ("tier = 'error-kernel'", (Tier::ErrorKernel, Strategy::OneForAll, 1, 60, None)),
        ("tier = 'critical'", (Tier::Critical, Strategy::OneForOne, 3, 30, None)),
        ("tier = 'normal'", (Tier::Normal, Strategy::OneForOne, 1, 5, None)),
        ("tier = 'peripheral'", (Tier::Peripheral, Strategy::OneForOne, 10, 60, Some(3))),
        (
            "strategy = 'rest-for-one'\nintensity = 7\nperiod = '2s'\ntier = 'error-kernel'",
            (Tier::ErrorKernel, Strategy::RestForOne, 7, 2, None),
        ),
        ("tier = 'peripheral'\n[escalation]", (Tier::Peripheral, Strategy::OneForOne, 10, 60, None)),
        ("tier = 'peripheral'\n[escalation]\nescalate = 2", (Tier::Peripheral, Strategy::OneForOne, 10, 60, None)),
        ("tier = 'peripheral'\nintensity = 2", (Tier::Peripheral, Strategy::OneForOne, 2, 60, None)),
    ];
    for (text, expected) in table {
        assert_eq!(of(text), expected, "{text}");
    }
    assert_eq!(supervisor("tier = 'peripheral'").unwrap().circuit_breaker, None, "that is for each worker to look up");
    assert_eq!(worker("tier = 'peripheral'").unwrap().circuit_breaker, None);
}

#[test]
fn the_root_is_nobodys_child() {
    let path = Path::new("workers/supervisor.toml");
    assert_eq!(parse_root(path, "intensity = 2"), parse_supervisor(path, "intensity = 2"));
    let errors = ["restart = 'permanent'", "shutdown = '5s'", "\nsignificant = false", "after = []"]
        .map(|text| parse_root(path, text).expect_err(text).to_string());
    expect![[r#"
        workers/supervisor.toml:1:11: `restart` has no meaning at the root: no supervisor is above it; leave it out
        workers/supervisor.toml:1:12: `shutdown` has no meaning at the root: no supervisor is above it; leave it out
        workers/supervisor.toml:2:15: `significant` has no meaning at the root: no supervisor is above it; leave it out
        workers/supervisor.toml:1:9: `after` has no meaning at the root: no supervisor is above it; leave it out"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn keys_have_their_places() {
    let text = "intensity = 1\n[budget]\n  memory = '1GiB'\nnobody = 1";
    let places = places(SettingsFile::Supervisor, text);
    assert_eq!(places, [("intensity".to_string(), (1, 13)), ("budget.memory".to_string(), (3, 12))].into());
}

#[test]
fn less_memory_lowers_the_default_payload() {
    assert_eq!(worker("[limits]\nmemory = '1MiB'").unwrap().limits.payload, 1 << 20);
    assert_eq!(worker("[limits]\nmemory = '64MiB'").unwrap().limits.payload, 4 << 20);
}

#[test]
fn shutdown_has_three_forms() {
    assert_eq!(worker("shutdown = 'kill'").unwrap().shutdown, Shutdown::Kill);
    assert_eq!(worker("shutdown = '250ms'").unwrap().shutdown, Shutdown::Time(Duration::from_millis(250)));
}

#[test]
fn the_parts_of_an_error_are_there() {
    let error = parse_worker(Path::new("a.toml"), "[limits]\n\n    memry = 1").unwrap_err();
    assert_eq!((error.line, error.column, error.key.as_str()), (3, 5, "limits.memry"));
    assert_eq!(error.help, "did you mean `memory`?");
}

#[test]
fn mistakes_of_workers() {
    let texts = [
        "[limits]\n\n    memry = 1",
        "[limts]",
        "colour = 1",
        "restart = 'permanant'",
        "restart = 'x'",
        "restart = 1",
        "restart = 'permanent",
        "restart = 'permanent'\nrestart = 'permanent'",
        "shutdown = 5",
        "shutdown = 'soon'",
        "durability = 'journal'",
        "significant = 1",
        "after = 'b'",
        "after = ['b', 'b']",
        "after = ['../b']",
        "tier = 1",
        "tier = 'kernel'",
        "[limits]\ncpu = 999_999",
        "[grants]\nchildren = 'yes'",
        "hibernate-after = '0s'",
        "snapshot = 5",
        "[snapshot]\nmessages = 0",
        "[snapshot]\ninterval = '0s'",
        "[limits]\nmemory = '1KiB'",
        "[limits]\nmemory = '5GiB'",
        "[limits]\nmemory = -1",
        "[limits]\nmemory = 'lots'",
        "[limits]\nmemory = 1.5",
        "[limits]\nfuel = 999",
        "[limits]\nfuel = 99999999999999999999",
        "[limits]\ndeadline = 5",
        "[limits]\ndeadline = '0s'",
        "[limits]\nstart = '2years'",
        "[limits]\nmailbox = 1000001",
        "[limits]\nmailbox = 0",
        "[limits]\nmemory = '1MiB'\npayload = '2MiB'",
        "config = 'x'",
        "[config]\na = [nan]",
        "[config.a]\n\"b\\u001b\" = inf",
        "[grants]\ndirectories = [{ host = 'x' }]",
        "[grants]\ndirectories = [{ hots = 'x', guest = '/x' }]",
        "[grants]\ndirectories = [{ host = 'x', guest = 'x' }]",
        "[grants]\ndirectories = [{ host = 'x', guest = '/x/..' }]",
        "[grants]\ndirectories = [{ host = 'x', guest = '/x' }, { host = 'y', guest = '/x' }]",
        "[grants]\ndirectories = [{ host = 'x', guest = '/x', access = 'write' }]",
        "[grants]\nenvironment = { A = 1 }",
        "[grants]\nenvironment = { 'A=B' = 'x' }",
        "[grants]\narguments = 'x'",
        "[grants]\nconnect = ['example.com:80']",
        "[circuit-breaker]\nfailures = 0",
        "[circuit-breaker]\nrecovery = '0s'",
        "[circuit-breaker]\ntrial = 1",
        "[rate]\nper-second = 0",
        "[rate]\nburst = 3",
        "[rate]\nper-second = 1\ncaller-burst = 3",
        "[upgrade]\nprobation = '25h'",
        "[upgrade]\non-rollback = 'retry'",
        "\"a\\u001b[31m\" = 1",
    ];
    let errors: Vec<_> = texts.iter().map(|text| worker(text).expect_err(text)).collect();
    expect![[r#"
        workers/a.toml:3:5: `memry` is not a key of [limits]; did you mean `memory`?
        workers/a.toml:1:2: `limts` is not a key of a worker's settings; did you mean `limits`?
        workers/a.toml:1:1: `colour` is not a key of a worker's settings; its keys are restart, shutdown, significant, after, tier, durability, health-interval, hibernate-after, config, snapshot, limits, circuit-breaker, rate, grants, upgrade
        workers/a.toml:1:11: "permanant" is not a value of `restart`; did you mean "permanent"?
        workers/a.toml:1:11: "x" is not a value of `restart`; write "permanent" or "transient" or "temporary"
        workers/a.toml:1:11: `restart` must be a text in quotes
        workers/a.toml:1:21: invalid literal string, expected `'`
        workers/a.toml:2:1: duplicate key
        workers/a.toml:1:12: `shutdown` must be a duration; write "kill", "infinity" or a duration like "5s"
        workers/a.toml:1:12: `shutdown` cannot be read: `soon` is not a duration (expected number at 0); write it like "250ms", "5s" or "2m"; write "kill", "infinity" or a duration like "5s"
        workers/a.toml:1:14: "journal" comes in a later version; write "snapshot" or "none"
        workers/a.toml:1:15: `significant` must be true or false
        workers/a.toml:1:9: `after` must be a list
        workers/a.toml:1:15: `b` is in `after` twice
        workers/a.toml:1:10: `../b` is not the name of a child; name direct children only, without `/`
        workers/a.toml:1:8: `tier` must be a text in quotes
        workers/a.toml:1:8: "kernel" is not a value of `tier`; write "error-kernel" or "critical" or "normal" or "peripheral"
        workers/a.toml:2:7: `limits.cpu` cannot be 999999; it must be at least 1000000
        workers/a.toml:2:12: `grants.children` must be true or false
        workers/a.toml:1:19: `hibernate-after` cannot be 0ns; it must be at least 10.0ms
        workers/a.toml:1:12: `snapshot` must be a table
        workers/a.toml:2:12: `snapshot.messages` cannot be 0; it must be at least 1
        workers/a.toml:2:12: `snapshot.interval` cannot be 0ns; it must be at least 10.0ms
        workers/a.toml:2:10: `limits.memory` cannot be 1.0 KiB; it must be at least 64.0 KiB
        workers/a.toml:2:10: `limits.memory` cannot be 5.0 GiB; it can be at most 4.0 GiB
        workers/a.toml:2:10: `limits.memory` must be a whole number from 0; within 64 bits
        workers/a.toml:2:10: `limits.memory` cannot be read: `lots` is not a size; write it like "64MiB", "16KiB" or "1000"
        workers/a.toml:2:10: `limits.memory` must be a size; write it like "64MiB", "16KiB" or 1000
        workers/a.toml:2:8: `limits.fuel` cannot be 999; it must be at least 1000
        workers/a.toml:2:8: `limits.fuel` must be a whole number from 0; within 64 bits
        workers/a.toml:2:12: `limits.deadline` must be a duration; write it in quotes with its unit, like "250ms", "5s" or "2m"
        workers/a.toml:2:12: `limits.deadline` must be more than zero
        workers/a.toml:2:9: `limits.start` cannot be 2years; it can be at most 1year
        workers/a.toml:2:11: `limits.mailbox` cannot be 1000001; it can be at most 1000000
        workers/a.toml:2:11: `limits.mailbox` cannot be 0; it must be at least 1
        workers/a.toml:3:11: `limits.payload` is 2.0 MiB, more than the memory; it can be at most 1.0 MiB
        workers/a.toml:1:10: `config` must be a table
        workers/a.toml:2:6: `config.a` has no form in JSON; write it as a text
        workers/a.toml:2:13: `config.a.b\u{1b}` has no form in JSON; write it as a text
        workers/a.toml:2:16: a granted directory has no `guest`; write { host = "../data", guest = "/data", access = "read" }
        workers/a.toml:2:18: `hots` is not a key of a granted directory; did you mean `host`?
        workers/a.toml:2:38: `x` is not a directory a guest can have; write an absolute path without `.` and `..`, like "/data"
        workers/a.toml:2:38: `/x/..` is not a directory a guest can have; write an absolute path without `.` and `..`, like "/data"
        workers/a.toml:2:46: `/x` is granted twice
        workers/a.toml:2:53: "write" is not a value of `grants.directories.access`; write "read" or "read-write"
        workers/a.toml:2:21: `grants.environment.A` must be a text in quotes
        workers/a.toml:2:17: `A=B` cannot be the name of an environment variable
        workers/a.toml:2:13: `grants.arguments` must be a list
        workers/a.toml:2:12: `example.com:80` is not an address to connect to; write `ip:port`, like "127.0.0.1:80" or "[::1]:80"; names are never resolved
        workers/a.toml:2:12: `circuit-breaker.failures` cannot be 0; it must be at least 1
        workers/a.toml:2:12: `circuit-breaker.recovery` must be more than zero
        workers/a.toml:2:1: `trial` is not a key of [circuit-breaker]; did you mean `trials`?
        workers/a.toml:2:14: `rate.per-second` cannot be 0; it must be at least 1
        workers/a.toml:2:9: `rate.burst` needs `per-second`
        workers/a.toml:3:16: `rate.caller-burst` needs `caller-per-second`
        workers/a.toml:2:13: `upgrade.probation` cannot be 1day 1h; it can be at most 1day
        workers/a.toml:2:15: "retry" is not a value of `upgrade.on-rollback`; write "replay" or "downgrade" or "drop"
        workers/a.toml:1:1: `a\u{1b}[31m` is not a key of a worker's settings; its keys are restart, shutdown, significant, after, tier, durability, health-interval, hibernate-after, config, snapshot, limits, circuit-breaker, rate, grants, upgrade"#]].assert_eq(&errors.join("\n"));
}

#[test]
fn mistakes_of_supervisors() {
    let texts = [
        "strategy = 'one-for-two'",
        "intensity = -1",
        "period = '0s'",
        "order = ['a', 'a']",
        "order = ['a/b']",
        "order = ['..']",
        "order = 'a'",
        "auto-shutdown = 'any'",
        "auto-shutdown = true",
        "on-demand = 'yes'",
        "tier = 'periferal'",
        "restart = 'never'",
        "shutdown = '0s'",
        "shutdown = 'kill'",
        "shutdown = 5",
        "significant = 'yes'",
        "after = ['a', 'a']",
        "[circuit-breaker]\nfailures = 0",
        "[circuit-breaker]\nwindow = '0s'",
        "[circuit-breaker]\ntrials = 0",
        "[escalation]\nisolate = -1",
        "[escalation]\nisolate = 1_000_001",
        "[escalation]\nrestart = 1",
        "[budget]\nmemory = '1KiB'",
        "[budget]\nmemory = '2PiB'",
        "[budget]\ncpu = 1000",
        "[budget]\ncpu = '50%'",
        "[backoff]\nfactor = 0",
        "[backoff]\njitter-percent = 101",
        "[backoff]\ninitial = '1m'",
        "[backoff]\ninitial = '2s'\nmax = '1s'",
        "colour = 1",
    ];
    let errors: Vec<_> = texts.iter().map(|text| supervisor(text).expect_err(text)).collect();
    expect![[r#"
        workers/supervisor.toml:1:12: "one-for-two" is not a value of `strategy`; did you mean "one-for-one"?
        workers/supervisor.toml:1:13: `intensity` must be a whole number from 0; within 64 bits
        workers/supervisor.toml:1:10: `period` must be more than zero
        workers/supervisor.toml:1:15: `a` is in `order` twice
        workers/supervisor.toml:1:10: `a/b` is not the name of a child; name direct children only, without `/`
        workers/supervisor.toml:1:10: `..` is no name: a part cannot be empty, `.` or `..`
        workers/supervisor.toml:1:9: `order` must be a list
        workers/supervisor.toml:1:17: "any" is not a value of `auto-shutdown`; did you mean "any-significant"?
        workers/supervisor.toml:1:17: `auto-shutdown` must be a text in quotes
        workers/supervisor.toml:1:13: `on-demand` must be true or false
        workers/supervisor.toml:1:8: "periferal" is not a value of `tier`; did you mean "peripheral"?
        workers/supervisor.toml:1:11: "never" is not a value of `restart`; write "permanent" or "transient" or "temporary"
        workers/supervisor.toml:1:12: `shutdown` cannot be "0s": a supervisor needs time to stop what is below it; write "infinity" or a duration like "30s"
        workers/supervisor.toml:1:12: `shutdown` cannot be "kill": a supervisor needs time to stop what is below it; write "infinity" or a duration like "30s"
        workers/supervisor.toml:1:12: `shutdown` must be a duration; write "infinity" or a duration like "30s"
        workers/supervisor.toml:1:15: `significant` must be true or false
        workers/supervisor.toml:1:15: `a` is in `after` twice
        workers/supervisor.toml:2:12: `circuit-breaker.failures` cannot be 0; it must be at least 1
        workers/supervisor.toml:2:10: `circuit-breaker.window` must be more than zero
        workers/supervisor.toml:2:10: `circuit-breaker.trials` cannot be 0; it must be at least 1
        workers/supervisor.toml:2:11: `escalation.isolate` must be a whole number from 0; within 64 bits
        workers/supervisor.toml:2:11: `escalation.isolate` cannot be 1000001; it can be at most 1000000
        workers/supervisor.toml:2:1: `restart` is not a key of [escalation]; its keys are circuit-break, isolate, escalate
        workers/supervisor.toml:2:10: `budget.memory` cannot be 1.0 KiB; it must be at least 64.0 KiB
        workers/supervisor.toml:2:10: `budget.memory` cannot be 2.0 PiB; it can be at most 1.0 PiB
        workers/supervisor.toml:2:7: `budget.cpu` cannot be 1000; it must be at least 1000000
        workers/supervisor.toml:2:7: `budget.cpu` must be a whole number
        workers/supervisor.toml:2:10: `backoff.factor` cannot be 0; it must be at least 1
        workers/supervisor.toml:2:18: `backoff.jitter-percent` cannot be 101; it can be at most 100
        workers/supervisor.toml:2:11: `backoff.max` (30.0s) is less than `backoff.initial` (1m); raise `max` to 1m or more
        workers/supervisor.toml:3:7: `backoff.max` (1.00s) is less than `backoff.initial` (2.00s); raise `max` to 2.00s or more
        workers/supervisor.toml:1:1: `colour` is not a key of a supervisor's settings; its keys are tier, strategy, intensity, period, order, auto-shutdown, on-demand, new-keys, idle-stop, restart, shutdown, significant, after, backoff, escalation, circuit-breaker, budget"#]].assert_eq(&errors.join("\n"));
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    let text = format!("[config]\na = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(worker(&text).is_err());
    let text = format!("[config.{}x]", "a.".repeat(100_000));
    let _ = worker(&text);
}
