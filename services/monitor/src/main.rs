//! The monitor service as its own process.

fn main() -> std::process::ExitCode {
    streamgate_runtime::run::<streamgate_monitor::App>()
}
