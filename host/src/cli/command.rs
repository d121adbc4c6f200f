//! The command line as a whole: its verbs, the options they share, and who handles which.

use std::ffi::OsString;
use std::future::Future;
use std::io;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use super::api::Client;
use super::errors::{CliError, Exit};
use super::output;
use super::target::{HostArgs, Target};
use super::verbs::*;

/// Run supervision trees of sandboxed WebAssembly workers, and change their code while they run
#[derive(Parser, Debug)]
#[command(
    name = "paguro",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done, 1 the request failed, 2 wrong usage, 3 the host cannot be reached, 4 an upgrade was \
called off or rolled back, 5 the host could not go on, 6 not all is well. Data goes to standard output, everything else to standard error; NO_COLOR holds.

Examples:
  paguro up                                 run the host on ./workers
  cp counter.wasm workers/                  a worker starts
  paguro call counter add                   ask it
  paguro upgrade counter counter-v2.wasm    change it while it runs
  paguro rollback counter                   and back"
)]
pub struct Cli {
    #[command(flatten)]
    host: HostArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the host on a directory of workers, in the foreground
    Up(up::UpArgs),
    /// List the workers: state, revision, uptime, restarts, mailbox, memory
    Ps(ps::PsArgs),
    /// Show the supervision tree
    Tree(tree::TreeArgs),
    /// Show a supervisor: its policy, what of it is used, recent restarts, its children
    Sup(sup::SupArgs),
    /// Report how everything is: states, uptimes, restarts, breakers, what is isolated
    Health(health::HealthArgs),
    /// Send a worker a request and print its reply
    Call(call::CallArgs),
    /// Send a worker a message, without a reply
    Cast(cast::CastArgs),
    /// Put a new component in a worker's place while it runs
    Upgrade(upgrade::UpgradeArgs),
    /// Go back to an earlier revision
    Rollback(rollback::RollbackArgs),
    /// End probation now: the new revision stays
    Commit(commit::CommitArgs),
    /// List a worker's revisions
    History(history::HistoryArgs),
    /// Start a worker that is stopped or isolated, or a key of a template
    Start(start::StartArgs),
    /// Stop a worker in order; it stays stopped
    Stop(stop::StopArgs),
    /// Stop a worker in order and start it again
    Restart(restart::RestartArgs),
    /// Stop a worker in order and keep it so
    Isolate(isolate::IsolateArgs),
    /// Drop a worker that is down; its state is kept under its name
    Delete(delete::DeleteArgs),
    /// Show, export or import a worker's state
    State(state::StateArgs),
    /// Show what workers logged and printed
    Logs(logs::LogsArgs),
    /// Show what happened in the host
    Events(events::EventsArgs),
    /// Ask whether a file is a worker, and whether it would fit
    Check(check::CheckArgs),
    /// List messages that were not handled; show, send again or drop them
    DeadLetters(dead_letters::DeadLettersArgs),
    /// List every decision about what runs: what, when, by whom, why
    Ledger(ledger::LedgerArgs),
    /// Look for what is not as it should be
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Reads the command line. Help and version are printed here and come back as an error without
/// words and with exit code 0.
pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Cli, CliError> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    Cli::try_parse_from(&args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&error.render().ansi().to_string()).err().unwrap_or(CliError::quiet())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::note(&error.render().ansi().to_string());
            CliError::new(Exit::Usage, "")
        }
        _ => usage_error(&error, &args),
    })
}

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { host, verb } = cli;
    match verb {
        Verb::Completions(args) => completions::run(&args),
        Verb::Up(args) => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            // Looks for timers and requests more often than by default, so that guests which use
            // their whole slice (5 ms of host calls) do not hold those up for long.
            runtime.event_interval(EVENT_INTERVAL);
            block_on(runtime, up::run(args, &host))
        }
        verb => {
            let client = Client::new(Target::of(&host), host.token.clone());
            // One request at a time: one thread is enough.
            block_on(tokio::runtime::Builder::new_current_thread(), ask(verb, &client))
        }
    }
}

async fn ask(verb: Verb, client: &Client) -> Result<(), CliError> {
    match verb {
        Verb::Ps(args) => ps::run(args, client).await,
        Verb::Tree(args) => tree::run(args, client).await,
        Verb::Sup(args) => sup::run(args, client).await,
        Verb::Health(args) => health::run(args, client).await,
        Verb::Isolate(args) => isolate::run(args, client).await,
        Verb::Delete(args) => delete::run(args, client).await,
        Verb::Call(args) => call::run(args, client).await,
        Verb::Cast(args) => cast::run(args, client).await,
        Verb::Upgrade(args) => upgrade::run(args, client).await,
        Verb::Rollback(args) => rollback::run(args, client).await,
        Verb::Commit(args) => commit::run(args, client).await,
        Verb::History(args) => history::run(args, client).await,
        Verb::Start(args) => start::run(args, client).await,
        Verb::Stop(args) => stop::run(args, client).await,
        Verb::Restart(args) => restart::run(args, client).await,
        Verb::State(args) => state::run(args, client).await,
        Verb::Logs(args) => logs::run(args, client).await,
        Verb::Events(args) => events::run(args, client).await,
        Verb::Check(args) => check::run(args, client).await,
        Verb::DeadLetters(args) => dead_letters::run(args, client).await,
        Verb::Ledger(args) => ledger::run(args, client).await,
        Verb::Doctor(args) => doctor::run(args, client).await,
        Verb::Up(_) | Verb::Completions(_) => unreachable!("`run` handles what needs no client"),
    }
}

/// Tasks that run between two looks for timers and requests; tokio's default is 61.
const EVENT_INTERVAL: u32 = 16;

fn block_on(
    mut runtime: tokio::runtime::Builder,
    work: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let runtime = runtime.enable_all().build().map_err(|error: io::Error| {
        CliError::failed("cannot start: the system gives no threads or files").cause(error.to_string())
    })?;
    let outcome = runtime.block_on(work);
    // A component that is still being compiled is nobody's any more: the process does not wait.
    runtime.shutdown_background();
    outcome
}

/// The parser's error in our three lines.
fn usage_error(error: &clap::Error, args: &[OsString]) -> CliError {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let message = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let help = match (tip, error.get(ContextKind::Usage)) {
        (Some(tip), _) => value_with_a_dash(error, args).unwrap_or_else(|| tip.to_string()),
        (None, Some(ContextValue::StyledStr(usage))) => usages(&usage.to_string()),
        _ => format!("paguro {}--help", verb_among(args)),
    };
    CliError::usage(message.strip_prefix("error: ").unwrap_or(&message)).help(help)
}

/// Of a value with a dash after an option: the parser's own tip is for what is no option's.
fn value_with_a_dash(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidArg) else { return None };
    let at = args.iter().position(|arg| arg.to_str().is_some_and(|arg| arg.starts_with(value.as_str())))?;
    let before = args.get(at.checked_sub(1)?)?.to_str()?;
    let takes_a_value = |command: &clap::Command| {
        command.get_arguments().any(|arg| {
            arg.get_action().takes_values()
                && arg.get_long().is_some_and(|long| before.strip_prefix("--") == Some(long))
        })
    };
    let command = Cli::command();
    let takes_it = takes_a_value(&command) || command.get_subcommands().any(takes_a_value);
    takes_it.then(|| format!("write a value that starts with a dash as `{before}={}`", args[at].to_string_lossy()))
}

/// Each way to use a command, on one line.
fn usages(usage: &str) -> String {
    let lines = usage.trim().trim_start_matches("Usage: ").lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", or ")
}

/// The verb that was meant and a space; the parser's error does not say it.
fn verb_among(args: &[OsString]) -> String {
    let is_verb = |word: &&str| Cli::command().find_subcommand(word).is_some();
    let verb = args.iter().skip(1).filter_map(|arg| arg.to_str()).find(is_verb);
    verb.map(|verb| format!("{verb} ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn refused(args: &[&str], expected: Expect) {
        let error = parse(std::iter::once("paguro").chain(args.iter().copied())).expect_err("it is refused");
        assert_eq!(error.exit().code(), 2);
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_told_in_three_lines() {
        refused(
            &["pss"],
            expect![[r#"
            error: unrecognized subcommand 'pss'
              help: a similar subcommand exists: 'ps'"#]],
        );
        refused(
            &["call"],
            expect![[r#"
            error: the following required arguments were not provided: <NAME>
              help: paguro call <NAME> [BODY | @FILE | -]"#]],
        );
        refused(
            &["call", "../x\u{1b}"],
            expect![[r#"
            error: invalid value '../x' for '<NAME>': `../x\u{1b}` is no name: a part cannot be empty, `.` or `..`
              help: paguro call --help"#]],
        );
        refused(
            &["call", "x", "--timeout", "5"],
            expect![[r#"
            error: invalid value '5' for '--timeout <DURATION>': `5` is not a duration (time unit needed, for example 5sec or 5ms); write it like "250ms", "5s" or "2m"
              help: paguro call --help"#]],
        );
        refused(
            &["ps", "--host", "https://x"],
            expect![[r#"
            error: invalid value 'https://x' for '--host <URL>': the host speaks plain HTTP; put a tunnel or a proxy in front of it
              help: paguro ps --help"#]],
        );
        refused(
            &["upgrade", "x", "y", "--wait", "--dry-run"],
            expect![[r#"
            error: the argument '--wait' cannot be used with '--dry-run'
              help: paguro upgrade --wait <NAME> <FILE>"#]],
        );
    }

    #[test]
    fn options_for_the_host_may_stand_before_or_after_the_verb() {
        for args in [["paguro", "--dir", "x", "ps"], ["paguro", "ps", "--dir", "x"]] {
            assert_eq!(parse(args).expect("it is right").host.dir, std::path::Path::new("x"));
        }
    }

    #[test]
    fn a_negative_number_is_a_body() {
        assert!(parse(["paguro", "cast", "stats", "-4.5"]).is_ok());
        assert!(parse(["paguro", "call", "stats", "-", "--timeout", "1s"]).is_ok());
    }
}
