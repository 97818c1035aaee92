//! `streamgate serve`.

use std::process::ExitCode;

use streamgate_runtime::Host;

/// The whole platform as one host, for this command and for tests in one process.
#[must_use]
pub fn host() -> Host {
    Host::new()
        .add::<streamgate_api_gateway::App>()
        .add::<streamgate_upload::App>()
        .add::<streamgate_transcoder::App>()
        .add::<streamgate_streaming::App>()
        .add::<streamgate_metadata::App>()
        .add::<streamgate_cache::App>()
        .add::<streamgate_auth::App>()
        .add::<streamgate_worker::App>()
        .add::<streamgate_monitor::App>()
}

/// Serves until it is told to stop.
pub(crate) fn run() -> ExitCode {
    host().run()
}
