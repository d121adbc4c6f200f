//! Messages that nobody handled: kept, looked at, sent again; and those that end their worker again and
//! again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use paguro::base::{Name, RevisionNumber, TimerId, Timestamp, bounds};
use paguro::control::{Host, RequestError};
use paguro::record::{Change, DeadLetterRecord, Event, LetterSort, LetterWhy};
use paguro_tests::{World, ask, call, event, events_of, guest, standing, until};
use serde_json::{Value, json};

use crate::program::Program;

/// Probation that only a verdict or an operator ends.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

async fn letters(host: &Host, worker: &str) -> Vec<DeadLetterRecord> {
    host.dead_letters(Some(worker), None, usize::MAX).await.expect("the letters can be read")
}

/// Waits for so many letters of a worker; newest first.
async fn some_letters(host: &Host, worker: &str, count: usize) -> Vec<DeadLetterRecord> {
    until(&format!("{count} letters of {worker}"), async || letters(host, worker).await.len() >= count).await;
    letters(host, worker).await
}

/// Why a letter was not sent again.
async fn refusal(host: &Host, id: u64) -> String {
    match host.resend_dead_letter(id).await {
        Err(RequestError::NotResent { refused, .. }) => format!("{}; {}", refused.why, refused.help),
        other => panic!("{other:?}"),
    }
}

/// The same worker with another hash: a custom section says nothing to anybody.
fn other(name: &str) -> Vec<u8> {
    let mut bytes = guest(name);
    bytes.extend([0, 6, 4, b'n', b'o', b't', b'e', b'x']);
    bytes
}

/// Has a probe wait for a worker that never answers, so that what is sent to it waits as well.
async fn keep_busy(host: &Arc<Host>, name: &'static str, ms: u64) -> tokio::task::JoinHandle<Result<Value, String>> {
    let mute = host.worker("mute").unwrap();
    let before = mute.counters.handled.load(Relaxed);
    let host = host.clone();
    let waits = json!({"call": {"to": "mute", "body": "x", "timeout": ms}});
    let waiting = tokio::spawn(async move { ask(&host, name, waits).await });
    until("it waits", async || mute.counters.handled.load(Relaxed) > before).await;
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_that_ended_its_worker_is_kept_and_a_mended_one_handles_it() {
    let mut world = World::new();
    world.put("counter", "fault-third").put("sender", "probe").write("counter.toml", "[snapshot]\nmessages = 1\n");
    let host = world.up().await;
    for _ in 0..3 {
        ask(&host, "sender", json!({"cast": {"to": "counter", "body": "add"}})).await.unwrap();
    }
    let found = some_letters(&host, "counter", 1).await;
    let [letter] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((letter.sort, letter.why, letter.bytes), (LetterSort::Cast, LetterWhy::EndedWorker, 3));
    assert_eq!((letter.from.as_ref().map(Name::as_str), letter.exit.as_deref()), (Some("sender"), Some("trap")));
    assert!(letter.reason.contains("trap"), "{letter:?}");
    assert_eq!(&*host.dead_letter(letter.id).await.unwrap().1, b"add");
    let said = event(&host, "the letter", |event| event.kind() == "dead-letter").await;
    assert!(said.to_string().contains(&format!("kept as dead letter {}", letter.id)), "{said}");

    world.down().await;
    let host = world.up().await;
    assert_eq!(letters(&host, "counter").await, found, "through a restart of the host");
    host.upgrade("counter", guest("counter-v2"), LONG).await.unwrap();
    host.commit("counter").await.unwrap();
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("2"));
    host.resend_dead_letter(letter.id).await.unwrap();
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("3"), "it is handled");
    assert_eq!(letters(&host, "counter").await, []);
    event(&host, "the sending", |event| matches!(event, Event::DeadLetterResent { .. })).await;
    let gone = host.resend_dead_letter(letter.id).await;
    assert!(matches!(gone, Err(RequestError::NoDeadLetter(_))), "{gone:?}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_its_worker_or_the_host_goes_can_be_sent_again_in_order() {
    let mut world = World::new();
    world.put("a", "probe").put("b", "probe").put("mute", "fault-mute");
    let host = world.up().await;
    let waiting = keep_busy(&host, "a", 1_000).await;
    for number in [1, 2] {
        host.cast("a", number.to_string().as_str().into()).unwrap();
    }
    world.remove("a.wasm");
    let found = some_letters(&host, "a", 2).await;
    assert!(found.iter().all(|letter| letter.why == LetterWhy::Removed), "{found:?}");
    until("a is gone", async || host.worker("a").is_err()).await;
    let refused = host.resend_dead_letter(found[0].id).await;
    assert!(matches!(refused, Err(RequestError::NoWorker { .. })), "{refused:?}");
    let _ = waiting.await;

    let _waiting = keep_busy(&host, "b", 1_000).await;
    host.cast("b", "3".into()).unwrap();
    drop(host);
    world.down().await;
    world.put("a", "probe");
    let host = world.up().await;
    let waited = letters(&host, "b").await;
    assert!(matches!(waited.as_slice(), [one] if one.why == LetterWhy::HostStopped), "{waited:?}");
    for letter in found.iter().rev().chain(&waited) {
        host.resend_dead_letter(letter.id).await.unwrap();
    }
    assert_eq!(ask(&host, "a", json!("log")).await, Ok(json!([{"cast": 1}, {"cast": 2}])));
    assert_eq!(ask(&host, "b", json!("log")).await, Ok(json!([{"cast": 3}])));
    assert_eq!(host.database().dead_letter_totals().unwrap().letters, 0);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_bounded_and_the_bound_is_told() {
    let mut world = World::new();
    world.put("a", "probe").put("batcher", "batcher");
    let host = world.up().await;
    let letter = |worker: &str, timer| {
        let id = host.database().next_dead_letter();
        let (sort, worker) = if timer { (LetterSort::Timer, "a") } else { (LetterSort::Cast, worker) };
        let record = DeadLetterRecord {
            id,
            at: Timestamp(0),
            worker: Name::parse(worker).unwrap(),
            sort,
            from: None,
            timer: timer.then_some(TimerId(77)),
            why: LetterWhy::Removed,
            reason: String::new(),
            exit: None,
            revision: RevisionNumber(1),
            bytes: 1,
        };
        (id, Change::PutDeadLetter(record, "1".into()))
    };
    // A timer of a worker that keeps its state fires again, as itself.
    let (timer, change) = letter("a", true);
    host.database().commit(vec![change]).await.unwrap();
    host.resend_dead_letter(timer).await.unwrap();
    assert_eq!(ask(&host, "a", json!("log")).await, Ok(json!([{"timer": 1, "id": 77}])));

    let many = (0..bounds::DEAD_LETTERS_MAX).map(|_| letter("gone", false).1).collect();
    host.database().commit(many).await.unwrap();
    host.cast("batcher", "trap".into()).unwrap();
    let reached = |event: &Event| matches!(event, Event::BoundReached { bound: "dead-letters", value: 10_000, .. });
    event(&host, "the bound", reached).await;
    assert_eq!(letters(&host, "batcher").await.len(), 1);
    assert_eq!(host.dead_letters(None, None, usize::MAX).await.unwrap().len(), bounds::PAGE_ROWS_MAX);
    let totals = host.database().dead_letter_totals().unwrap();
    assert_eq!((totals.letters, totals.let_go), (bounds::DEAD_LETTERS_MAX as u64, 1));
    assert_eq!(host.drop_dead_letters("gone").await.unwrap(), bounds::DEAD_LETTERS_MAX as u64 - 1);
    assert_eq!(letters(&host, "gone").await, []);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_its_worker_three_times_is_quarantined() {
    let mut world = World::new();
    world.put("counter", "counter-v1").write("supervisor.toml", "intensity = 100\n");
    world.write("counter.toml", "[snapshot]\nmessages = 1\n");
    let host = world.up().await;
    let crash = async || call(&host, "counter", "crash").await.unwrap_err();
    for number in 1..=3 {
        let error = crash().await;
        assert!(error.starts_with("down: trap"), "{number}: {error}");
        let again = || async { call(&host, "counter", "add").await };
        until("it runs again", async || again().await.is_ok()).await;
    }
    let restarts = || host.worker("counter").unwrap().counters.seen(|of| &of.restarts);
    assert_eq!(restarts(), 3);
    for _ in 0..5 {
        let error = crash().await;
        assert!(error.contains("quarantined") && error.contains("paguro dead-letters"), "{error}");
    }
    assert_eq!(restarts(), 3, "it was not run");
    assert!(call(&host, "counter", "get").await.is_ok(), "others are");
    let quarantined =
        |event: &Event| matches!(event, Event::PoisonQuarantined { sort: "call", bytes: 5, kills: 3, .. });
    event(&host, "the quarantine", quarantined).await;
    let found = letters(&host, "counter").await;
    let [letter] = found.as_slice() else { panic!("once, and only it: {found:?}") };
    assert_eq!((letter.sort, letter.why), (LetterSort::Call, LetterWhy::Poison));
    assert_eq!(&*host.dead_letter(letter.id).await.unwrap().1, b"crash");
    assert!(refusal(&host, letter.id).await.contains("paguro call counter -"));

    // A rollback brings back the revision that died of it, and what is known of it.
    host.upgrade("counter", guest("counter-v2"), LONG).await.unwrap();
    assert!(host.rollback("counter", None).await.unwrap().is_ok());
    assert!(crash().await.contains("quarantined"));
    // Another revision may do better. On trial it is not counted: it is rolled back.
    host.upgrade("counter", guest("counter-v2"), LONG).await.unwrap();
    host.commit("counter").await.unwrap();
    assert!(crash().await.starts_with("down: trap"), "it is tried");
    world.down().await;
}

/// Who sends the same again may send it either way.
#[tokio::test(flavor = "multi_thread")]
async fn calls_and_casts_of_the_same_bytes_count_together() {
    let mut world = World::new();
    world.put("batcher", "batcher").write("supervisor.toml", "intensity = 100\n");
    let host = world.up().await;
    until("it runs", async || call(&host, "batcher", "\"get\"").await.is_ok()).await;
    let restarts = || host.worker("batcher").unwrap().counters.seen(|of| &of.restarts);
    for (number, casts) in [(1, false), (2, true), (3, false)] {
        match casts {
            true => host.cast("batcher", "\"trap\"".into()).unwrap(),
            false => drop(call(&host, "batcher", "\"trap\"").await.unwrap_err()),
        }
        until("it runs again", async || restarts() == number && standing(&host, "batcher") == "running").await;
    }
    let refused = call(&host, "batcher", "\"trap\"").await.unwrap_err();
    assert!(refused.contains("quarantined"), "{refused}");
    host.cast("batcher", "\"trap\"".into()).unwrap();
    until("a cast of it is refused too", async || {
        letters(&host, "batcher")
            .await
            .first()
            .is_some_and(|letter| letter.why == LetterWhy::Poison && letter.sort == LetterSort::Cast)
    })
    .await;
    assert_eq!(restarts(), 3, "without being run");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_that_is_poison_costs_no_worker_any_more() {
    let mut world = World::new();
    world.put("batcher", "batcher").write("supervisor.toml", "intensity = 100\n");
    let host = world.up().await;
    let casts = async |body: &str, count: usize| {
        let before = letters(&host, "batcher").await.len();
        for _ in 0..count {
            host.cast("batcher", body.into()).unwrap();
        }
        some_letters(&host, "batcher", before + count).await
    };
    let whys = |letters: &[DeadLetterRecord]| letters.iter().map(|letter| letter.why.as_str()).collect::<Vec<_>>();
    assert_eq!(whys(&casts("trap", 3).await), ["poison", "ended-worker", "ended-worker"]);
    until("it runs", async || standing(&host, "batcher") == "running").await;
    let ends = || events_of(&host, "batcher").iter().filter(|event| event.kind() == "worker-exited").count();
    let ended = ends();
    host.cast("batcher", "1".into()).unwrap();
    let found = casts("trap", 20).await;
    host.cast("batcher", "2".into()).unwrap();
    until("the others came", async || {
        let got = ask(&host, "batcher", json!("get")).await;
        got.is_ok_and(|got| got["casts"] == json!([1, 2]))
    })
    .await;
    assert_eq!(whys(&found)[..20], ["poison"; 20]);
    assert_eq!(ends(), ended, "none of them was run");

    let poison = found[0].id;
    assert!(refusal(&host, poison).await.contains("paguro upgrade batcher FILE"));
    let before = letters(&host, "batcher").await.last().unwrap().clone();
    assert_eq!(before.why, LetterWhy::EndedWorker);
    assert!(refusal(&host, before.id).await.contains("paguro upgrade batcher FILE"), "it is of the same content");
    host.upgrade("batcher", other("batcher"), LONG).await.unwrap();
    host.commit("batcher").await.unwrap();
    host.resend_dead_letter(poison).await.unwrap();
    until("the new revision ended over it", async || ends() > ended).await;
    let found = some_letters(&host, "batcher", found.len()).await;
    assert_eq!((found[0].why, found[0].revision), (LetterWhy::EndedWorker, RevisionNumber(2)), "it begins anew");
    world.down().await;
}

#[test]
fn the_program_lists_shows_sends_and_drops_them() {
    let mut program = Program::new();
    program.write("counter.toml", b"[snapshot]\nmessages = 1\n");
    program.write("counter.wasm", &guest("fault-third"));
    program.write("batcher.wasm", &guest("batcher"));
    program.up();
    assert_eq!(program.json(&["dead-letters"]), json!([]));
    for _ in 0..3 {
        program.ok(&["cast", "counter", "add"]);
    }
    program.ok(&["cast", "batcher", "trap"]);
    program.until("two letters", || program.json(&["dead-letters"]).as_array().map(Vec::len) == Some(2));
    let listed = program.json(&["dead-letters", "--worker", "counter"]);
    let (letter, id) = (&listed[0], listed[0]["id"].to_string());
    assert_eq!(
        (&letter["sort"], &letter["why"], &letter["exit"]),
        (&json!("cast"), &json!("ended-worker"), &json!("trap"))
    );
    assert!(program.ok(&["dead-letters"]).contains("ended-worker"));
    assert_eq!(program.json(&["dead-letters", "--limit", "1"]).as_array().map(Vec::len), Some(1));
    assert_eq!(program.ok(&["dead-letters", "show", &id]), "add");
    assert_eq!(program.json(&["dead-letters", "show", &id])["text"], "add");
    assert!(program.run(&["dead-letters", "show", &id]).err.contains("cast of 3 B"));

    program.refused(&["dead-letters", "show", "99"], 1, &["no dead letter 99", "paguro dead-letters"]);
    program.refused(&["dead-letters", "resend"], 2, &["ID"]);
    program.refused(&["dead-letters", "resend", "--worker", "counter"], 2, &["--all"]);
    program.ok(&["upgrade", "counter", &program.file("counter-v2")]);
    program.ok(&["commit", "counter"]);
    let told = program.run(&["dead-letters", "resend", "--worker", "counter", "--all"]);
    assert_eq!((told.code, told.err.contains("in the mailbox of counter again")), (0, true), "{told:?}");
    assert_eq!(program.ok(&["call", "counter", "get"]).trim(), "3");
    program.refused(&["dead-letters", "resend", &id], 1, &["no dead letter"]);
    let left = program.json(&["dead-letters"])[0]["id"].to_string();
    program.ok(&["dead-letters", "drop", &left]);
    program.refused(&["dead-letters", "drop", &left], 1, &["no dead letter"]);
    program.ok(&["dead-letters", "drop", "--worker", "batcher", "--all"]);
    assert_eq!(program.json(&["dead-letters"]), json!([]));
    assert_eq!(program.terminate(), 0);
}
