//! The transcoder service in a process of its own.

fn main() -> std::process::ExitCode {
    streamgate_runtime::run::<streamgate_transcoder::App>()
}
