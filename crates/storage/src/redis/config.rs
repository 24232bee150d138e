//! Where Redis is and how long it may take.

use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use url::Url;

use crate::store::Result;
use crate::{Secret, StorageError};

/// How to use a Redis server, or a cluster of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/db]`, with TLS `rediss://…`. A cluster is several of
    /// them, separated by commas, or one whose scheme is `redis+cluster` or `rediss+cluster`.
    pub url: Secret,
    /// How long Redis keeps a piece.
    pub ttl: Duration,
    /// Longest time to wait for an answer of up to a megabyte; larger ones get as much again for
    /// each further one.
    pub timeout: Duration,
}

/// What a URL says.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) nodes: Vec<ConnectionInfo>,
    pub(super) cluster: bool,
    /// The URL without credentials.
    pub(super) shown: String,
}

impl RedisConfig {
    /// The URL without credentials.
    ///
    /// # Errors
    /// As for [`Redis::new`](crate::Redis::new).
    pub fn address(&self) -> Result<String> {
        Ok(self.target()?.shown)
    }

    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config); no message repeats a part of the URL, which
    /// may hold a password where none is expected.
    pub(super) fn target(&self) -> Result<Target> {
        if self.ttl.is_zero() || self.timeout.is_zero() {
            return refuse("Redis needs a time to keep pieces and a time to answer in");
        }
        let mut urls = Vec::new();
        for text in self.url.expose().split(',') {
            urls.push(parse(text.trim())?);
        }
        let cluster = urls.len() > 1 || urls[0].scheme().ends_with("+cluster");
        let scheme = |url: &Url| url.scheme().trim_end_matches("+cluster").to_owned();
        let shown: Vec<_> = urls.iter().map(shown).collect();
        let mut nodes: Vec<ConnectionInfo> = Vec::new();
        for mut url in urls {
            let plain = scheme(&url);
            if url.set_scheme(&plain).is_err() {
                return refuse("the Redis URL cannot be used");
            }
            match url.into_connection_info() {
                Ok(node) => nodes.push(node),
                Err(_) => {
                    return refuse(
                        "a Redis URL names a host and perhaps a port, a database number, a user \
                         and a password: \"redis://user:password@host:port/number\", with \
                         characters that mean something in a URL written as %XX",
                    );
                }
            }
        }
        if cluster && nodes.iter().any(|node| node.redis_settings().db() != 0) {
            return refuse("a Redis cluster has no database but number 0");
        }
        let same = |a: &ConnectionInfo, b: &ConnectionInfo| {
            let key = |node: &ConnectionInfo| {
                let settings = node.redis_settings();
                let text = |text: Option<&str>| text.map(str::to_owned);
                let tls = matches!(node.addr(), ConnectionAddr::TcpTls { .. });
                (tls, text(settings.username()), text(settings.password()))
            };
            key(a) == key(b)
        };
        if nodes.iter().any(|node| !same(node, &nodes[0])) {
            return refuse(
                "the URLs of a Redis cluster must have the same scheme, user and password",
            );
        }
        Ok(Target { nodes, cluster, shown: shown.join(",") })
    }
}

impl Target {
    /// `text` without the password, which a server may repeat in a message: one that does not
    /// know AUTH says so together with its arguments.
    pub(super) fn without_password(&self, text: &str) -> String {
        // What is repeated may be cut, and a part of a long password would not be recognised.
        let text = text.split("args beginning with").next().unwrap_or_default();
        match self.nodes[0].redis_settings().password() {
            Some(password) if !password.is_empty() => text.replace(password, "…"),
            _ => text.to_owned(),
        }
    }
}

fn refuse<T>(why: &str) -> Result<T> {
    Err(StorageError::config(why))
}

fn parse(text: &str) -> Result<Url> {
    let Ok(url) = Url::parse(text) else {
        return refuse(
            "the Redis URL cannot be parsed (a comma in a password is written as %2C, and other \
             characters that mean something in a URL likewise)",
        );
    };
    if !matches!(url.scheme(), "redis" | "rediss" | "redis+cluster" | "rediss+cluster") {
        return refuse(
            "the scheme of the Redis URL is not supported: supported are \"redis\", \"rediss\", \
             \"redis+cluster\" and \"rediss+cluster\"",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("the Redis URL must not have a query or a fragment");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("the Redis URL names no host");
    }
    Ok(url)
}

/// The URL as it may be shown.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let database = match url.path().trim_matches('/') {
        "" => String::new(),
        number => format!("/{number}"),
    };
    format!("{}://{}{port}{database}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn config(url: &str) -> RedisConfig {
        let (ttl, timeout) = (Duration::from_secs(60), Duration::from_millis(5));
        RedisConfig { url: Secret::new(url), ttl, timeout }
    }

    #[test]
    fn good_urls_say_where_and_who() {
        for (url, shown, cluster) in [
            ("redis://host", "redis://host", false),
            ("rediss://u:p%2Cw@host:1/3", "rediss://host:1/3", false),
            ("redis://:pw@[::1]:7000/", "redis://[::1]:7000", false),
            ("redis+cluster://host:1", "redis+cluster://host:1", true),
            ("redis://:pw@a:1, redis://:pw@b:2", "redis://a:1,redis://b:2", true),
            ("rediss+cluster://a,rediss://b", "rediss+cluster://a,rediss://b", true),
        ] {
            let target = config(url).target().expect(url);
            assert_eq!((target.shown.as_str(), target.cluster), (shown, cluster), "{url}");
        }
        let target = config("rediss://u:p%2Cw@host:1/3").target().expect("good");
        let settings = target.nodes[0].redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("u"), Some("p,w")));
        assert_eq!(settings.db(), 3);
        assert!(matches!(target.nodes[0].addr(), ConnectionAddr::TcpTls { .. }));
    }

    #[test]
    fn bad_urls_are_refused_and_not_repeated() {
        for url in [
            "",
            "hunter2",
            "hunter2@host",
            "hunter2:x@host",
            "http://u:hunter2@host",
            "unix:///hunter2",
            "redis://",
            "redis://u:hunter2@",
            "redis://u:hunter2@/3",
            "redis://u:hunter2@host:port",
            "redis://u:hunter2@host/x",
            "redis://u:hunter2@host?x=1",
            "rediss://u:hunter2@host#insecure",
            "redis://u:hunt#er2@host",
            "redis://u:hunt/er2@host",
            "redis://u:hunt,er2@host",
            "redis://u:hunter2@a,",
            "redis://u:hunter2@a,redis://b",
            "redis://u:hunter2@a,rediss://u:hunter2@b",
            "redis+cluster://u:hunter2@host/1",
        ] {
            let Err(error) = config(url).target() else { panic!("{url} is accepted") };
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunt") && !shown.contains("er2"), "{shown}");
        }
    }

    #[test]
    fn times_must_be_given() {
        let good = config("redis://host");
        assert!(RedisConfig { ttl: Duration::ZERO, ..good.clone() }.target().is_err());
        assert!(RedisConfig { timeout: Duration::ZERO, ..good }.target().is_err());
    }

    #[test]
    fn passwords_are_taken_out_of_messages() {
        let target = config("redis://:p%2Cw@host").target().expect("good");
        assert_eq!(target.without_password("args 'p,w' and p,w"), "args '…' and …");
        let target = config("redis://host").target().expect("good");
        assert_eq!(target.without_password("as it is"), "as it is");
    }
}
