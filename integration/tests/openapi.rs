//! The OpenAPI document that the running edge serves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{fs, process::Command};

use streamgate_integration::rest::Rest;
use streamgate_testkit::{Platform, repository, tool};

#[tokio::test]
async fn the_openapi_document_lints_clean() {
    let platform = Platform::builder().start().await.unwrap();
    let reply = Rest::new(&platform.url()).unwrap().get("/openapi.json").await.unwrap().expect(200).unwrap();
    assert!(reply.json().unwrap()["paths"].as_object().unwrap().len() > 40, "too few paths");

    let file = platform.data_dir().join("openapi.json");
    fs::write(&file, &reply.body).unwrap();
    let lint = Command::new(tool("spectral", "STREAMGATE_SPECTRAL").unwrap())
        .args(["lint", "--fail-severity", "warn", "--ruleset"])
        .arg(repository().join(".spectral.yaml"))
        .arg(&file)
        .output()
        .unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
}
