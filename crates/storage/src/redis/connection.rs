//! What is asked of Redis, of one server or of a cluster.

use std::time::Duration;

use futures::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, RedisResult, Value};

use super::config::Target;

/// Longest time to make a connection: address, TLS, password.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a cluster's client waits for an answer before it gives the request up by itself;
/// longer than anybody here waits.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a cluster's client asks another node when it is told to.
const REDIRECTIONS: u32 = 2;

/// A connection, or those to the nodes of a cluster, for any number of requests at once. Clones
/// share it, and it ends with the last one.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn open(target: &Target) -> RedisResult<Self> {
        if matches!(target.nodes[0].addr(), ConnectionAddr::TcpTls { .. }) {
            // Without it rustls would have to guess, and refuses where several could be meant.
            // Somebody else's choice stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        if !target.cluster {
            // Every wait is bounded by who waits.
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(None);
            let client = Client::open(target.nodes[0].clone())?;
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            return Ok(Self::Server(connection));
        }
        let client = ClusterClient::builder(target.nodes.iter().cloned())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(REDIRECTIONS)
            .build()?;
        Ok(Self::Cluster(client.get_async_connection().await?))
    }

    /// The values of `keys`, in order: in one round trip, or one to each node at the same time.
    pub(super) async fn get(&self, keys: &[Vec<u8>]) -> RedisResult<Vec<Option<Vec<u8>>>> {
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let values = match self.ask(&command).await?.extract_error()? {
            Value::Array(values) => values,
            _ => Vec::new(),
        };
        let mut values = values.into_iter();
        Ok(keys
            .iter()
            .map(|_| match values.next() {
                Some(Value::BulkString(value)) => Some(value),
                _ => None,
            })
            .collect())
    }

    /// Writes values that Redis keeps for `ttl`, all in one round trip.
    pub(super) async fn set(
        &self,
        values: &[(Vec<u8>, Vec<u8>)],
        ttl: Duration,
    ) -> RedisResult<()> {
        let seconds = ttl.as_secs().max(1);
        let set = |key: &[u8], value: &[u8]| {
            let mut command = redis::cmd("SET");
            command.arg(key).arg(value).arg("EX").arg(seconds);
            command
        };
        match self {
            Self::Server(connection) => {
                let mut pipeline = redis::pipe();
                for (key, value) in values {
                    pipeline.add_command(set(key, value)).ignore();
                }
                pipeline.query_async(&mut connection.clone()).await
            }
            // A pipeline goes to one node, and the keys belong to many.
            Self::Cluster(_) => {
                try_join_all(values.iter().map(|(key, value)| {
                    let command = set(key, value);
                    async move { self.ask(&command).await?.extract_error().map(drop) }
                }))
                .await?;
                Ok(())
            }
        }
    }

    async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => connection.clone().req_packed_command(command).await,
            Self::Cluster(connection) => connection.clone().req_packed_command(command).await,
        }
    }
}
