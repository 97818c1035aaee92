//! Which elements the encoder needs, and which Debian package brings each; and whether it can be confined.

use std::{
    env, fs, io,
    process::{Command, ExitCode, Stdio},
};

use gstreamer as gst;
use streamgate_media::encoder_protocol::Report;

/// Element, and the package that holds it.
const NEEDED: [(&str, &str); 28] = [
    ("filesrc", "libgstreamer1.0-0"),
    ("queue", "libgstreamer1.0-0"),
    ("tee", "libgstreamer1.0-0"),
    ("valve", "libgstreamer1.0-0"),
    ("decodebin3", "gstreamer1.0-plugins-base"),
    ("uridecodebin", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
    ("videorate", "gstreamer1.0-plugins-base"),
    ("audioconvert", "gstreamer1.0-plugins-base"),
    ("audioresample", "gstreamer1.0-plugins-base"),
    ("audiorate", "gstreamer1.0-plugins-base"),
    ("oggdemux", "gstreamer1.0-plugins-base"),
    ("deinterlace", "gstreamer1.0-plugins-good"),
    ("videoflip", "gstreamer1.0-plugins-good"),
    ("jpegenc", "gstreamer1.0-plugins-good"),
    ("qtdemux", "gstreamer1.0-plugins-good"),
    ("matroskademux", "gstreamer1.0-plugins-good"),
    ("avidemux", "gstreamer1.0-plugins-good"),
    ("aacparse", "gstreamer1.0-plugins-good"),
    ("audiobuffersplit", "gstreamer1.0-plugins-bad"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("h265parse", "gstreamer1.0-plugins-bad"),
    ("tsdemux", "gstreamer1.0-plugins-bad"),
    ("x264enc", "gstreamer1.0-plugins-ugly"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avenc_aac", "gstreamer1.0-libav"),
];

/// One sentence when something is missing.
///
/// # Errors
/// The sentence.
pub fn elements() -> Result<(), String> {
    gst::init().map_err(|error| format!("GStreamer can't start: {error}"))?;
    let missing: Vec<_> = NEEDED.iter().filter(|(element, _)| gst::ElementFactory::find(element).is_none()).collect();
    let Some((element, package)) = missing.first() else { return Ok(()) };
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let others = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
    Err(format!("the GStreamer element {element}{others} is missing: install {} (first {package})", packages.join(" ")))
}

/// One sentence when this kernel can't confine an encoder. It is tried in a child: there is no way back.
fn sandbox() -> Result<(), String> {
    let broken = |error: io::Error| format!("the encoder can't try its sandbox: {error}");
    let program = env::current_exe().map_err(broken)?;
    let folder = env::temp_dir().join(format!("streamgate-check-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(broken)?;
    let mut child = Command::new(&program);
    child.arg("confine").arg("--input").arg(&program).arg("--output").arg(&folder);
    // GStreamer is not used in there.
    let answer = child.env("GST_REGISTRY_UPDATE", "no").stdin(Stdio::null()).output().map_err(broken);
    let _ = fs::remove_dir_all(&folder);
    let answer = answer?;
    match serde_json::from_slice(&answer.stdout) {
        _ if answer.status.success() => Ok(()),
        Ok(Report::Error { detail, .. }) => Err(detail),
        _ => Err("the encoder can't enter its sandbox".to_owned()),
    }
}

/// The `check` command.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer")]
pub fn run() -> ExitCode {
    match elements().and_then(|()| sandbox()) {
        Ok(()) => {
            println!("ok: {} elements of {}", NEEDED.len(), gst::version_string());
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}
