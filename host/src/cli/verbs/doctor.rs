//! `paguro doctor`: what is not as it should be.

use std::fmt::Write;

use clap::Args;

use crate::cli::api::{ApiPath, Client};
use crate::cli::errors::{CliError, Exit};
use crate::cli::output;
use crate::cli::render::{count, paint, safe, style_of};
use crate::control::wire::DoctorInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
Ends with 6 where it found a warning or an error.

Examples:
  paguro doctor
  paguro doctor --json")]
pub struct DoctorArgs {
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: DoctorArgs, client: &Client) -> Result<(), CliError> {
    let reply = client.get(ApiPath::new("doctor")).await?;
    let findings: Vec<DoctorInfo> = reply.json()?;
    if args.json {
        output::print_json(&reply.body)?
    } else {
        output::print(&list(&findings))?
    }
    let of = |verdict: &str| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    let told = match (of("error"), of("warn")) {
        (0, 0) => return Ok(()),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{} and {}", count(errors, "error"), count(warnings, "warning")),
    };
    Err(CliError::new(Exit::NotWell, format!("the doctor found {told}")))
}

fn list(findings: &[DoctorInfo]) -> String {
    let mut out = String::new();
    for finding in findings {
        let verdict = paint(style_of(&finding.verdict), &format!("{:<5}", safe(&finding.verdict)));
        let _ = writeln!(out, "{verdict} {}: {}", safe(&finding.what), safe(&finding.detail));
        if !finding.help.is_empty() {
            let _ = writeln!(out, "      {}", safe(&finding.help));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use expect_test::expect;

    use super::*;

    #[test]
    fn findings_say_what_to_do() {
        let json = r#"[{"what":"database","verdict":"ok","detail":"12 MiB"},
            {"what":"disk","verdict":"warn","detail":"2% free","help":"make room on /var"}]"#;
        expect![[r#"
            ok    database: 12 MiB
            warn  disk: 2% free
                  make room on /var
        "#]]
        .assert_eq(&strip_str(&list(&serde_json::from_str::<Vec<_>>(json).unwrap())).to_string());
    }
}
