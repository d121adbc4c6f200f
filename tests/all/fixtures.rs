//! What older versions left behind still opens, still runs, and says what it said (`tests/fixtures`).

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paguro::base::{Name, RevisionNumber};
use paguro::change::Outcome;
use paguro::control::{Host, RequestError};
use paguro::record::{LetterSort, LetterWhy, Verdict};
use paguro_tests::{World, call, decisions, guest, root, standing, until};

/// Entries of the fixture's ledger, and the digest of the last one: the whole chain hangs on it.
const ENTRIES: u64 = 51;
const DIGEST: &str = "e2b8300becd9ef83ab849f084e27a154afef7462b505f49d53c9959f3684e3c6";

fn fixture(below: &str) -> PathBuf {
    root().join("tests/fixtures").join(below)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory of the fixture") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file is copied");
        }
    }
}

/// The state of version 0.1, on the present host.
async fn opened() -> (World, Arc<Host>) {
    let mut world = World::new();
    copy(&fixture("state-0.1/workers"), &world.path());
    copy(&fixture("state-0.1/state"), &world.path().join(".paguro"));
    let host = world.up().await;
    (world, host)
}

async fn state(host: &Host, name: &str) -> String {
    let state = host.state(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    String::from_utf8_lossy(&state.data).into_owned()
}

/// Number, first letters of the component, verdict.
fn history(host: &Host, name: &str) -> Vec<(u64, String, Verdict)> {
    let revisions = host.database().revisions(&Name::parse(name).expect("a name")).expect("revisions can be read");
    revisions.iter().map(|found| (found.number.0, found.component.hex()[..8].to_string(), found.verdict)).collect()
}

fn info(host: &Host, name: &str) -> paguro::control::wire::WorkerInfo {
    host.worker_info(&host.worker(name).expect("it is there")).expect("it can be described")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_version_0_1_opens_and_goes_on() {
    let (mut world, host) = opened().await;
    for name in ["counter", "refused", "small", "mended", "guarded", "tenants/42", "tenants/7"] {
        until(name, async || standing(&host, name) == "running").await;
    }

    // The ledger: the whole chain, of every sort of entry that there was, and the host's own behind it.
    let entries = host.database().ledger(0, 1_000).unwrap();
    assert_eq!(host.database().verify_ledger(), Ok(entries.len() as u64));
    let last = &entries[ENTRIES as usize - 1];
    assert_eq!((last.seq, last.action.as_str()), (ENTRIES, "host-stopped"));
    let digest: String = last.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, DIGEST);
    assert_eq!(entries[ENTRIES as usize].action.as_str(), "host-started");
    let actions: BTreeSet<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    let known = "deployed host-started host-stopped recovered removed rollback-started rolled-back settings-changed \
                 state-imported upgrade-called-off upgrade-committed upgrade-requested upgrade-switched \
                 upgrade-switching";
    assert_eq!(actions, known.split_whitespace().collect());
    assert!(entries[ENTRIES as usize..].iter().all(|entry| entry.action.as_str() != "deployed"), "nothing is new");

    // States, to the number; and they count on.
    assert_eq!(state(&host, "counter").await, r#"{"counts":{"default":44}}"#);
    assert_eq!(state(&host, "small").await, r#"{"count":4}"#);
    assert_eq!(state(&host, "mended").await, r#"{"counts":{"default":2}}"#);
    assert_eq!(state(&host, "tenants/42").await, r#"{"count":2}"#);
    assert_eq!(state(&host, "tenants/7").await, r#"{"count":1}"#);
    assert_eq!(call(&host, "counter", "add").await.as_deref(), Ok("45"));
    assert_eq!(call(&host, "tenants/42", "add").await.as_deref(), Ok("3"));

    // A child that was let go of is not back; its state is, with its name.
    assert_eq!(standing(&host, "tenants/0"), "absent");
    host.start_worker("tenants/0").await.unwrap();
    assert_eq!(state(&host, "tenants/0").await, r#"{"count":0}"#);
    let config = host.database().worker(&Name::parse("tenants/42").unwrap()).unwrap().unwrap().config;
    assert_eq!(config.as_deref(), Some(r#"{"plan":"pro"}"#));

    // A file that comes back finds what its worker had; one that was deleted by command stays so.
    world.put_bytes("gone", &fs::read(fixture("state-0.1/workers/deleted.wasm")).unwrap());
    until("gone is back", async || standing(&host, "gone") == "running").await;
    assert_eq!(state(&host, "gone").await, r#"{"count":1000}"#);
    assert!(host.worker("deleted").is_err() || standing(&host, "deleted") == "down", "it was deleted");

    // Overrides hold. The breaker of the one that failed lets nobody through, or on trial a year later.
    assert_eq!((info(&host, "small").file.as_str(), info(&host, "small").revision), ("override", 2));
    assert_eq!((info(&host, "mended").file.as_str(), info(&host, "counter").file.as_str()), ("override", "same"));
    let breaker = info(&host, "guarded").breaker;
    assert!(matches!(breaker.as_deref(), Some("open" | "half-open")), "{breaker:?}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_version_0_1_rejected_stays_rejected_and_its_history_leads_back() {
    use Verdict::{CalledOff, Committed, Interrupted, RolledBack, Superseded};
    let (mut world, host) = opened().await;
    until("counter runs", async || standing(&host, "counter") == "running").await;
    let revision = |number, component: &str, verdict| (number, component.to_string(), verdict);
    assert_eq!(
        history(&host, "counter"),
        [
            revision(1, "c3079692", Superseded),
            revision(2, "a7a36a1a", Committed),
            revision(3, "35cdc992", RolledBack),
            revision(4, "b013e3b9", CalledOff),
            revision(5, "9df5101e", Interrupted),
        ]
    );
    assert_eq!(history(&host, "small"), [revision(1, "bd083357", Superseded), revision(2, "79fdfc1f", Committed)]);

    // The file is there still, and is not tried again when others change.
    world.put("echo", "echo");
    until("echo runs", async || standing(&host, "echo") == "running").await;
    assert_eq!((info(&host, "refused").file.as_str(), info(&host, "refused").revision), ("rejected", 1));
    assert_eq!(history(&host, "refused"), [revision(1, "c3079692", Committed), revision(2, "b013e3b9", CalledOff)]);
    let tried = decisions(&host, "refused").iter().filter(|action| *action == "upgrade-requested").count();
    assert_eq!(tried, 1, "by version 0.1, and not since");
    let rejections = host.database().rejections(&Name::parse("counter").unwrap()).unwrap();
    let rejected: Vec<String> = rejections.iter().map(|found| found.component.hex()[..8].to_string()).collect();
    assert_eq!(rejected, ["35cdc992", "b013e3b9"]);

    // A revision of long ago is still there to go back to, out of the kept components.
    let Err(mut switched) = host.rollback("counter", Some(RevisionNumber(1))).await.unwrap() else {
        panic!("nothing was on trial")
    };
    assert_eq!(info(&host, "counter").component[..8], *"c3079692");
    drop(switched.outcome.try_recv());
    host.commit("counter").await.unwrap();
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("44"));
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_version_0_1_is_sent_again() {
    let (mut world, host) = opened().await;
    until("mended runs", async || standing(&host, "mended") == "running").await;
    let letters = host.dead_letters(None, None, usize::MAX).await.unwrap();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.id, letter.worker.as_str(), letter.bytes), (1, "mended", 3));
    assert_eq!(
        (letter.sort, letter.why, letter.exit.as_deref()),
        (LetterSort::Cast, LetterWhy::EndedWorker, Some("trap"))
    );
    assert_eq!(&*host.dead_letter(1).await.unwrap().1, b"add");
    assert_eq!(call(&host, "mended", "get").await.as_deref(), Ok("2"));
    host.resend_dead_letter(1).await.unwrap();
    assert_eq!(call(&host, "mended", "get").await.as_deref(), Ok("3"), "it is handled");
    assert!(matches!(host.dead_letter(1).await, Err(RequestError::NoDeadLetter(1))));
    world.down().await;
}

fn old_guest(language: &str) -> Vec<u8> {
    let file = fs::File::open(fixture(&format!("guests-0.1/counter-{language}.wasm.zst"))).expect("a fixture");
    let mut bytes = Vec::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(file).expect("it is zstd");
    decoder.read_to_end(&mut bytes).expect("it is whole");
    bytes
}

/// One test and one host, because compiling the largest of them takes longer than all the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_version_0_1_runs_in_each_language_and_takes_over_from_another() {
    const LANGUAGES: [&str; 4] = ["c", "js", "py", "rs"];
    let mut world = World::new();
    for language in LANGUAGES {
        world.put_bytes(language, &old_guest(language));
    }
    let host = world.up().await;
    for language in LANGUAGES {
        until(language, async || standing(&host, language) == "running").await;
        assert_eq!(call(&host, language, "add").await.as_deref(), Ok("1"), "{language}");
        host.cast(language, "add".into()).expect("the mailbox is open");
        assert_eq!(call(&host, language, "get").await.as_deref(), Ok("2"), "{language}");
        assert_eq!(state(&host, language).await.replace(' ', ""), r#"{"count":2}"#, "{language}");
        host.restart_worker(language).await.unwrap();
        assert_eq!(call(&host, language, "get").await.as_deref(), Ok("2"), "{language}, from its state");
    }
    for (count, language) in (3..).zip(&LANGUAGES[1..]) {
        let switched = host.upgrade("c", old_guest(language), None).await;
        switched.unwrap_or_else(|error| panic!("to {language}: {error}"));
        assert!(matches!(host.commit("c").await, Ok(Outcome::Committed { .. })), "{language}");
        assert_eq!(call(&host, "c", "add").await, Ok(count.to_string()), "{language}");
    }
    // And from the guest of then to the one of now.
    host.upgrade("c", guest("readme-counter-rs"), Some(Duration::ZERO)).await.unwrap();
    assert_eq!(call(&host, "c", "get").await.as_deref(), Ok("5"));
    world.down().await;
}

#[test]
fn fixtures_say_nothing_of_the_machine_they_were_made_on() {
    let mut files: Vec<(String, Vec<u8>)> =
        ["rs", "c", "js", "py"].map(|name| (name.to_string(), old_guest(name))).into();
    for below in ["state-0.1/workers", "state-0.1/state", "state-0.1/state/components"] {
        let entries = fs::read_dir(fixture(below)).expect("a directory").map(|entry| entry.expect("an entry").path());
        let found = entries.filter(|path| path.is_file());
        files.extend(found.map(|path| (path.display().to_string(), fs::read(&path).expect("a file"))));
    }
    for (name, bytes) in files {
        for place in [b"/root/".as_slice(), b"/home/", env!("CARGO_MANIFEST_DIR").as_bytes()] {
            let found = bytes.windows(place.len()).position(|window| window == place);
            assert!(found.is_none(), "{name} holds {} at {found:?}", String::from_utf8_lossy(place));
        }
    }
}
