//! The examples do what they promise: the dictionary in a browser, the retriever at the terminal.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;

use harness::clients::{self, conninfo, node, python};
use harness::process::{Server, signal_process, tail};
use harness::wait::{wait_for, wait_until};
use harness::{Cluster, tools};
use nix::sys::signal::Signal;

/// The dictionary's address, once its log names one.
fn address(server: &mut Server, log: &Path) -> String {
    wait_for("the dictionary to open", || {
        assert!(server.is_running(), "the dictionary ended:\n{}", tail(log, 20));
        let text = fs::read_to_string(log).expect("the log is readable");
        let start = text.find("http://127.0.0.1:")?;
        let end = text[start..].find("/ ")?;
        Some(text[start..=start + end].to_owned())
    })
}

#[test]
fn model_embeds_as_the_sample_was() {
    clients::run(&mut python(&tools::client("embeddings.py")), &[&tools::example("")]);
}

#[test]
fn dictionary_in_a_browser() {
    // The page's figures are those of one segment; a worker may flush some rows while others still come in.
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let log = cluster.socket().join("dictionary.log");
    let mut app = python(&tools::example("dictionary/app.py"));
    let mut server = Server::start(app.args(["--database", &conninfo(&cluster)]), &log);
    let address = address(&mut server, &log);
    clients::run(
        node("dictionary_page.mjs").env("S3VECTOR_CHROMIUM", tools::chromium()),
        &[&address, &cluster.socket()],
    );
    server.stop(Signal::SIGTERM);
    let text = fs::read_to_string(&log).expect("the log is readable");
    assert!(!text.contains("Traceback") && !text.contains("Error"), "{text}");
}

/// What `make dictionary` runs when everything is built: a cluster of its own, gone after Ctrl-C.
#[test]
fn dictionary_on_its_own_cluster() {
    let folder = tempfile::Builder::new()
        .prefix("d")
        .tempdir_in(tools::directory())
        .expect("a folder for the example");
    let (log, data) = (folder.path().join("log"), folder.path().join("cluster"));
    // PostgreSQL's user passes through.
    harness::process::give_to_server_user(folder.path());
    let mut start = python(&tools::example("start.py"));
    // A process group, as a terminal makes one.
    start.arg("dictionary").env("S3VECTOR_DEMO_DIR", &data).process_group(0);
    let mut server = Server::start(&mut start, &log);
    let address = address(&mut server, &log);

    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("the dictionary listens");
    stream.write_all(b"GET /search?q=a+large+cat HTTP/1.0\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.contains(r#""part":"noun""#), "{answer}");

    let running = || processes_naming(&data);
    assert!(running() > 0, "no server has its files in {}", data.display());
    signal_process(-server.pid(), Signal::SIGINT);
    wait_until("everything to end", || !server.is_running() && running() == 0);
    let text = fs::read_to_string(&log).expect("the log is readable");
    assert!(!text.contains("Traceback") && !text.contains("error"), "{text}");
}

/// How many processes have a path in their arguments.
fn processes_naming(path: &Path) -> usize {
    let path = path.to_str().expect("a plain name");
    let processes = fs::read_dir("/proc").expect("processes are listed");
    processes
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|arguments| String::from_utf8_lossy(arguments).contains(path))
        .count()
}

#[test]
fn retriever_answers() {
    let cluster = Cluster::start();
    let ask = |arguments: &[&str]| {
        let mut command = python(&tools::example("retriever/ask.py"));
        command.args(["--database", &conninfo(&cluster)]).args(arguments);
        clients::run(&mut command, &[])
    };
    let printed = ask(&[]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "10,003 documents added");
    // The first answer of three to each of three questions.
    let first = |question: &str| {
        let position = lines.iter().position(|line| *line == format!("? {question}"));
        lines[position.unwrap_or_else(|| panic!("no '{question}' in {lines:#?}")) + 1]
    };
    assert!(first("the fear of open spaces").starts_with("  - agoraphobia: a morbid fear of open"));
    let recovery = first("how do I recover after somebody deleted my bucket?");
    assert!(recovery.starts_with("  - When the bucket is lost, REINDEX"), "{recovery}");
    assert!(first("to divide into two halves").starts_with("  - halve: divide by two"));
    assert_eq!(lines.len(), 1 + 3 * 4, "{lines:#?}");

    // Again, on what is there, with a filter and a question of one's own.
    let printed = ask(&["--part", "adj", "not willing to spend money"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!((lines.len(), lines[0]), (5, "10,003 documents added"));
    let documents = cluster
        .client()
        .query_one("SELECT s3vector.count_vectors('knowledge')", &[])
        .expect("a count")
        .get::<_, i64>(0);
    assert_eq!(documents, 10_003);
    for line in &lines[2..] {
        let text = line.trim_start_matches("  - ");
        let part: String = cluster
            .client()
            .query_one(
                "SELECT metadata->>'part' FROM knowledge WHERE metadata->>'text' = $1",
                &[&text],
            )
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .get(0);
        assert_eq!(part, "adj", "{text}");
    }
}

#[test]
fn retriever_is_a_vector_store() {
    let cluster = Cluster::start();
    clients::run(
        &mut python(&tools::client("langchain_store.py")),
        &[&conninfo(&cluster), &tools::example("retriever")],
    );
}
