//! Requests that schemathesis makes up from `/openapi.json`, against the running platform.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{env, path::Path, process::Command};

use streamgate_testkit::{Platform, repository};

/// Made-up requests for each operation and kind, unless `STREAMGATE_EXAMPLES` says otherwise.
const FEW: &str = "3";
/// What every answer is checked for.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

fn schemathesis() -> Command {
    let program = repository().join(".tools/schemathesis/bin/schemathesis");
    assert!(program.is_file(), "{} is not there: run scripts/install-for-tests", program.display());
    Command::new(program)
}

/// Without a number asked for, a short run; with one, every phase with so many requests.
fn length() -> [String; 4] {
    #[allow(clippy::disallowed_methods, reason = "a developer says how long the run may be")]
    let asked = env::var("STREAMGATE_EXAMPLES").ok();
    let phases = if asked.is_some() { "coverage,fuzzing,stateful" } else { "fuzzing" };
    ["--phases".into(), phases.into(), "--max-examples".into(), asked.unwrap_or_else(|| FEW.into())]
}

async fn run(platform: &Platform, role: &str, scratch: &Path) {
    let url = platform.url();
    let output = schemathesis()
        .current_dir(scratch)
        .env("SCHEMATHESIS_HOOKS", repository().join("scripts/lib/schemathesis_hooks.py"))
        .arg("run")
        .arg(format!("{url}/openapi.json"))
        .args(["--url", &url, "--checks", CHECKS, "--seed", "1", "--continue-on-failure", "--no-shrink", "--warnings", "off"])
        .args(length())
        .args(["--header", &format!("Authorization: Bearer {}", platform.api_key(role).unwrap())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as {role}: {said}");
}

#[tokio::test]
async fn no_made_up_request_gets_a_server_error_or_an_undocumented_answer() {
    let rates = ["IDENTITY", "ADDRESS", "MEDIA"].map(|what| format!("STREAMGATE_API_GATEWAY__RATES__{what}_PER_SECOND"));
    let builder = rates.into_iter().fold(Platform::builder(), |builder, name| builder.env(name, "0"));
    let platform = builder.start().await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for role in ["operator", "creator"] {
        run(&platform, role, scratch.path()).await;
    }
}
