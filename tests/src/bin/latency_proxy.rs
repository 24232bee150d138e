//! The proxy of the tests as a program, for benchmarks that are not written in Rust.
//!
//! usage: latency-proxy --upstream http://127.0.0.1:PORT [--latency-ms 30]
//!
//! Prints its own URL. Then, for each line `stats` on standard input, a line of JSON: what came
//! through so far. Ends when standard input does.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use harness::proxy::{Counts, Proxy};

const USAGE: &str = "usage: latency-proxy --upstream http://HOST:PORT [--latency-ms MILLISECONDS]";

fn main() -> ExitCode {
    let Some((upstream, latency)) = arguments(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let proxy = Proxy::start(&upstream);
    proxy.set_latency(latency);
    match serve(&proxy, std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latency-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The server's URL and the delay.
fn arguments(mut given: impl Iterator<Item = String>) -> Option<(String, Duration)> {
    let (mut upstream, mut latency) = (None, Duration::ZERO);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--upstream" => upstream = Some(given.next()?),
            "--latency-ms" => latency = milliseconds(&given.next()?)?,
            _ => return None,
        }
    }
    Some((upstream.filter(|url| url.starts_with("http://"))?, latency))
}

fn milliseconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1e3).ok()
}

/// Obeys the lines of `input` to their end.
fn serve(proxy: &Proxy, input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    writeln!(output, "{}", proxy.endpoint())?;
    output.flush()?;
    for line in input.lines() {
        let line = line?;
        if line.trim() != "stats" {
            return Err(std::io::Error::other(format!("not a command: {line}")));
        }
        // Nobody reads the list of requests.
        proxy.take_log();
        writeln!(output, "{}", json(&proxy.counts()))?;
        output.flush()?;
    }
    Ok(())
}

fn json(counts: &Counts) -> String {
    format!(
        "{{\"requests\": {}, \"gets\": {}, \"bytes\": {}, \"connections\": {}}}",
        counts.requests, counts.gets, counts.bytes, counts.connections
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let read = |text: &str| arguments(text.split_whitespace().map(str::to_owned));
        let url = "http://127.0.0.1:1".to_owned();
        let delay = Duration::from_millis(30);
        assert_eq!(read(&format!("--upstream {url} --latency-ms 30")), Some((url.clone(), delay)));
        assert_eq!(read(&format!("--upstream {url}")), Some((url, Duration::ZERO)));
        for wrong in ["", "--upstream", "--upstream ftp://a", "--upstream http://a --latency-ms x"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lines_are_obeyed() {
        let proxy = Proxy::start("http://127.0.0.1:1");
        let mut output = Vec::new();
        serve(&proxy, &b"stats\nstats\n"[..], &mut output).expect("two lines");
        let printed = String::from_utf8(output).expect("text");
        let stats = "{\"requests\": 0, \"gets\": 0, \"bytes\": 0, \"connections\": 0}\n";
        assert_eq!(printed, format!("{}\n{stats}{stats}", proxy.endpoint()));
        serve(&proxy, &b"what\n"[..], Vec::new()).expect_err("not a command");
    }
}
