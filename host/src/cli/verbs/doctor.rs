//! `paguro doctor`: what is not as it should be.

use std::fmt::Write;

use clap::Args;

use crate::cli::api::{ApiPath, Client};
use crate::cli::errors::CliError;
use crate::cli::output;
use crate::cli::render::{count, paint, safe, style_of};
use crate::control::wire::DoctorInfo;

#[derive(Args, Debug)]
#[command(after_help = "\
Ends with 1 where something is an error; warnings alone end with 0.

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
    match findings.iter().filter(|finding| finding.verdict == "error").count() {
        0 => Ok(()),
        errors => Err(CliError::failed(format!("the doctor found {}", count(errors as u64, "error")))),
    }
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
