//! The streaming service as a process of its own.

fn main() -> std::process::ExitCode {
    streamgate_runtime::run::<streamgate_streaming::App>()
}
