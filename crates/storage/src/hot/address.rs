//! Where the hot store is: the address as a person writes it, without its password wherever it is shown.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError};

/// The port where none is given.
const PORT: u16 = 6379;

/// An address of one server or of some nodes of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether it is a cluster.
    pub(crate) cluster: bool,
    /// The server, or nodes to ask for all others.
    pub(crate) nodes: Vec<Host>,
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    database: i64,
}

/// A host and its port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// The address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address of the hot store cannot be read: {0}; it is written redis://USER:PASSWORD@HOST:PORT, rediss:// with TLS, \
     or redis+cluster://HOST:PORT,HOST:PORT for a cluster"
)]
pub struct HotAddressError(&'static str);

impl Address {
    /// Reads `redis://`, `rediss://`, `redis+cluster://` and `rediss+cluster://`, each with `[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DATABASE]`.
    pub(crate) fn parse(text: &str) -> Result<Address, HotAddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(HotAddressError("it has no scheme"))?;
        let (tls, cluster) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+cluster" => (false, true),
            "rediss+cluster" => (true, true),
            _ => return Err(HotAddressError("its scheme is not known")),
        };
        let (who, rest) = rest.rsplit_once('@').map_or((None, rest), |(who, rest)| (Some(who), rest));
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or(("", who))) {
            None => (None, None),
            Some((user, password)) => (Some(decode(user)?), Some(decode(password)?)),
        };
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database.trim_end_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| HotAddressError("its database is not a number"))?,
        };
        let nodes: Vec<Host> = hosts.split(',').map(Host::parse).collect::<Result<_, _>>()?;
        if !cluster && nodes.len() > 1 {
            return Err(HotAddressError("several nodes are a cluster"));
        }
        if cluster && database != 0 {
            return Err(HotAddressError("a cluster has no numbered databases"));
        }
        let user = user.filter(|user| !user.is_empty());
        Ok(Address { cluster, nodes, tls, user, password, database })
    }

    /// How to connect to one of its nodes.
    pub(crate) fn connection(&self, host: &Host) -> Result<ConnectionInfo, RedisError> {
        let (name, port) = (host.name.clone(), host.port);
        let address = match self.tls {
            false => ConnectionAddr::Tcp(name, port),
            true => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        };
        let mut settings = RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info()?.set_redis_settings(settings);
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(info.set_tcp_settings(tcp))
    }
}

impl Host {
    fn parse(text: &str) -> Result<Host, HotAddressError> {
        let (name, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        if name.is_empty() {
            return Err(HotAddressError("a host has no name"));
        }
        let port = port.map_or(Ok(PORT), str::parse);
        let port = port.map_err(|_| HotAddressError("a port is not a number"))?;
        Ok(Host { name: name.to_owned(), port })
    }
}

/// Undoes the encoding of what may not stand in an address as it is.
fn decode(text: &str) -> Result<String, HotAddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(HotAddressError("a % is not followed by two hexadecimal digits"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| HotAddressError("its user or password is not UTF-8"))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("cluster", &self.cluster)
            .field("nodes", &self.nodes)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let shown = |text: &str| {
            let address = Address::parse(text).unwrap();
            (address.cluster, address.tls, format!("{:?}", address.nodes), address.database)
        };
        assert_eq!(shown("redis://cache"), (false, false, "[cache:6379]".into(), 0));
        assert_eq!(shown("rediss://:pw@10.0.0.1:7000/3"), (false, true, "[10.0.0.1:7000]".into(), 3));
        assert_eq!(shown("redis://[::1]:7000/"), (false, false, "[[::1]:7000]".into(), 0));
        assert_eq!(shown("redis+cluster://u:p@a:1,b:2,c"), (true, false, "[a:1, b:2, c:6379]".into(), 0));
        let address = Address::parse("redis://bob:p%40ss%3a@h").unwrap();
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("bob"), Some("p@ss:")));
        assert_eq!(Address::parse("redis://only@h").unwrap().password.as_deref(), Some("only"));
    }

    #[test]
    fn what_is_no_address_is_refused_and_passwords_are_never_shown() {
        for bad in [
            "cache:6379",
            "http://h",
            "redis://",
            "redis://a:x",
            "redis://a,b",
            "redis+cluster://a/1",
            "redis://h/secret-db",
            "redis://u:%zz-secret@h",
            "redis://u:secret%4@h",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{bad}");
        }
        let address = Address::parse("redis://bob:secret@h").unwrap();
        let info = address.connection(&address.nodes[0]).unwrap();
        assert!(!format!("{address:?} {info:?}").contains("secret"));
        assert_eq!(info.redis_settings().password(), Some("secret"));
    }
}
