//! `streamgate upload` against an edge that notes what it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use sha2::{Digest as _, Sha256};

const FILE: &[u8] = b"not much of a film";
const OPEN: &str = r#"{"everyone":{}}"#;
const SHUT: &str = r#"{"wallets":{"accounts":["eip155:1:0x5fbdb2315678afecb367f032d93f642f64180aa3"]}}"#;

/// An edge with one upload.
#[derive(Default)]
struct Edge {
    /// What was asked, with bodies of JSON.
    asked: Mutex<Vec<String>>,
    /// Bytes are refused.
    full: AtomicBool,
    received: Mutex<usize>,
}

impl Edge {
    fn start() -> (Arc<Self>, String) {
        let (edge, listener) = (Arc::new(Self::default()), TcpListener::bind("127.0.0.1:0").unwrap());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = Arc::clone(&edge);
        thread::spawn(move || {
            for connection in listener.incoming() {
                serving.serve(connection.unwrap());
            }
        });
        (edge, url)
    }

    fn serve(&self, mut connection: TcpStream) {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_lowercase());
        }
        let Some(request) = head.first() else { return };
        let request = request.trim_end_matches(" http/1.1").to_owned();
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let (status, headers, answer) = self.answer(&request, &body);
        // What a HEAD would have had stays away, and nobody would read it.
        let answer = if request.starts_with("head ") { String::new() } else { answer };
        let length = answer.len();
        let text = format!(
            "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{answer}"
        );
        connection.write_all(text.as_bytes()).unwrap();
    }

    fn answer(&self, request: &str, body: &[u8]) -> (u16, String, String) {
        let mut received = self.received.lock().unwrap();
        if request.starts_with("patch /api/v1/uploads/") {
            if self.full.load(Ordering::SeqCst) {
                return (403, String::new(), r#"{"detail":"no more"}"#.into());
            }
            *received += body.len();
        }
        let is_bytes = request.contains(" /api/v1/uploads/upl_1");
        let body = if is_bytes { String::new() } else { format!(" {}", String::from_utf8_lossy(body)) };
        self.asked.lock().unwrap().push(format!("{request}{body}"));
        let sha256 = hex::encode(Sha256::digest(FILE));
        let upload = format!(r#"{{"upload":{{"upload_id":"upl_1","content_id":"cnt_1","sha256":"{sha256}"}}}}"#);
        (200, format!("upload-offset: {received}\r\n"), upload)
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn upload(url: &str, file: &Path, more: &[&str]) -> ExitCode {
    let mut arguments: Vec<OsString> = vec!["streamgate".into(), "upload".into(), file.into(), "--server".into(), url.into()];
    arguments.extend(more.iter().map(OsString::from));
    streamgate::run(arguments.into_iter())
}

#[test]
fn an_upload_that_goes_on_takes_the_gate_and_title_that_are_given_now() {
    let (edge, url) = Edge::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.mp4");
    std::fs::write(&file, FILE).unwrap();

    edge.full.store(true, Ordering::SeqCst);
    assert_ne!(upload(&url, &file, &["--gate", OPEN]), ExitCode::SUCCESS);
    assert!(edge.asked()[0].starts_with("post /api/v1/uploads {"), "begun with the first gate");

    assert_ne!(upload(&url, &file, &[]), ExitCode::SUCCESS);
    assert_eq!(edge.asked(), ["head /api/v1/uploads/upl_1"], "what is not given stays");

    edge.full.store(false, Ordering::SeqCst);
    assert_eq!(upload(&url, &file, &["--gate", SHUT, "--title", "My talk"]), ExitCode::SUCCESS);
    let expected = [
        "head /api/v1/uploads/upl_1".to_owned(),
        format!("put /api/v1/contents/cnt_1/gate {SHUT}"),
        r#"patch /api/v1/contents/cnt_1 {"title":"My talk"}"#.to_owned(),
        "patch /api/v1/uploads/upl_1".to_owned(),
        "post /api/v1/uploads/upl_1/complete".to_owned(),
    ];
    assert_eq!(edge.asked(), expected);
}
