//! Hints for a server that does not answer: whether anything listens at its address, and what is wrong with the
//! certificates. The errors of the libraries have no common type, so the texts of their causes decide.

/// Why a server does not answer, as far as the client can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Nothing listens at the address.
    NothingListens,
    /// The name of the server has no address.
    NoSuchName,
    /// The server did not answer in time.
    Late,
    /// An unknown authority has signed the server's certificate.
    UnknownAuthority,
    /// The server's certificate is for other names.
    OtherName,
    /// The server's certificate has expired, or is not valid yet.
    OutOfDate,
    /// The server's certificate cannot be used for another reason.
    BadCertificate,
    /// The server does not accept the client's certificate, or asks for one.
    ClientCertificate,
    /// The server does not speak TLS.
    NoTls,
    /// The server has closed the connection.
    Closed,
    /// There is another reason.
    Other,
}

/// The texts by which a reason is recognised. The first one that the reason contains counts.
const TEXTS: [(&str, Silence); 27] = [
    ("Connection refused", Silence::NothingListens),
    ("No such file or directory", Silence::NothingListens),
    ("dns error", Silence::NoSuchName),
    ("deadline has elapsed", Silence::Late),
    ("timed out", Silence::Late),
    ("no answer within", Silence::Late),
    ("UnknownIssuer", Silence::UnknownAuthority),
    ("BadSignature", Silence::UnknownAuthority),
    ("not valid for name", Silence::OtherName),
    ("expired", Silence::OutOfDate),
    ("not valid yet", Silence::OutOfDate),
    ("invalid peer certificate", Silence::BadCertificate),
    ("alert: CertificateRequired", Silence::ClientCertificate),
    ("alert: BadCertificate", Silence::ClientCertificate),
    ("alert: UnsupportedCertificate", Silence::ClientCertificate),
    ("alert: CertificateRevoked", Silence::ClientCertificate),
    ("alert: CertificateExpired", Silence::ClientCertificate),
    ("alert: CertificateUnknown", Silence::ClientCertificate),
    ("alert: UnknownCA", Silence::ClientCertificate),
    ("alert: AccessDenied", Silence::ClientCertificate),
    ("alert: UnrecognisedName", Silence::OtherName),
    ("received corrupt message", Silence::NoTls),
    ("tls handshake eof", Silence::NoTls),
    ("broken pipe", Silence::Closed),
    ("onnection reset", Silence::Closed),
    ("connection closed", Silence::Closed),
    ("unexpected end of file", Silence::Closed),
];

impl Silence {
    fn of(reason: &str) -> Self {
        TEXTS.iter().find(|(text, _)| reason.contains(text)).map_or(Self::Other, |(_, silence)| *silence)
    }
}

const OF_API_SERVER: &str = "use the address and the certificates of the API server: --apiserver-manifest FILE";

const CERTIFIED: &str = "with a certificate of its authority: --etcd-certfile FILE --etcd-keyfile FILE";

/// Whether the server's certificate is the reason why there is no answer.
pub(in crate::cli) fn is_of_certificate(reason: &str) -> bool {
    matches!(Silence::of(reason), Silence::UnknownAuthority | Silence::BadCertificate)
}

/// Returns the hint for the etcd at `url`, which does not answer.
pub(super) fn silent_etcd(url: &str, reason: &str) -> String {
    let has_tls = ["https:", "unixs:"].iter().any(|scheme| url.starts_with(scheme));
    let plain = url.replacen("https:", "http:", 1).replacen("unixs:", "unix:", 1);
    let over_tls = url.replacen("http:", "https:", 1).replacen("unix:", "unixs:", 1);
    match Silence::of(reason) {
        Silence::NothingListens => {
            format!(
                "nothing listens at this address: start etcd if it has stopped; if it listens elsewhere, {OF_API_SERVER}"
            )
        }
        Silence::NoSuchName => format!("this machine knows no address of that name: {OF_API_SERVER}"),
        Silence::Late => format!(
            "nothing has answered in time: look into the log of etcd, which may be overloaded or paused, and for a firewall \
             between; if etcd listens elsewhere, {OF_API_SERVER}"
        ),
        Silence::UnknownAuthority | Silence::BadCertificate => {
            format!("something listens there, and its certificate is refused: {OF_API_SERVER}")
        }
        Silence::OtherName => format!(
            "something listens there, and its certificate is for other names: use one of these in --etcd-servers; or {OF_API_SERVER}"
        ),
        Silence::OutOfDate => {
            "something listens there, and its certificate has expired or is not valid yet: renew the \
                               certificate of etcd, or set the clock of the machine whose clock is wrong"
                .to_owned()
        }
        Silence::ClientCertificate => {
            format!("something listens there, and it accepts only clients {CERTIFIED}; or {OF_API_SERVER}")
        }
        Silence::Closed if has_tls => format!(
            "something listens there, and it closed the connection, perhaps because it accepts only clients {CERTIFIED}; or \
             {OF_API_SERVER}"
        ),
        Silence::NoTls => {
            format!(
                "something listens there, and it speaks no TLS: if it is etcd: --etcd-servers {plain}; otherwise {OF_API_SERVER}"
            )
        }
        Silence::Closed => format!(
            "something listens there, and it closed the connection, perhaps because it expects TLS: --etcd-servers {over_tls} \
             --etcd-cafile FILE; otherwise {OF_API_SERVER}"
        ),
        Silence::Other => OF_API_SERVER.to_owned(),
    }
}

/// Whether the command has to go on with another kubeconfig, according to the hint for an API server.
#[cfg(feature = "reencrypt")]
pub(in crate::cli) fn needs_kubeconfig(hint: &str) -> bool {
    hint.ends_with("--kubeconfig FILE")
}

/// Returns the hint for an API server that does not answer. Its address and certificates are in the kubeconfig.
#[cfg(feature = "reencrypt")]
pub(in crate::cli) fn silent_api_server(reason: &str) -> &'static str {
    match Silence::of(reason) {
        Silence::NothingListens => {
            "nothing listens at this address, which is `server` in the kubeconfig: see whether kube-apiserver runs there"
        }
        Silence::NoSuchName => "this machine knows no address of that name, which is in `server` in the kubeconfig",
        Silence::Late => {
            "nothing has answered in time: look into the log of kube-apiserver, which may be overloaded or paused, and for a firewall between"
        }
        Silence::UnknownAuthority | Silence::BadCertificate => {
            "something listens there, and its certificate is not signed by the `certificate-authority` of the kubeconfig: take a \
             kubeconfig of this cluster: --kubeconfig FILE"
        }
        Silence::OtherName => {
            "something listens there, and its certificate is for other names: use one of these as `server` in the kubeconfig, or set \
             `tls-server-name`"
        }
        Silence::OutOfDate => {
            "something listens there, and its certificate has expired or is not valid yet: renew the certificate of kube-apiserver, or \
             set the clock of the machine whose clock is wrong"
        }
        Silence::ClientCertificate => {
            "something listens there, and it refuses the client certificate of the kubeconfig: take another one: --kubeconfig FILE"
        }
        Silence::NoTls => "something listens there, and it speaks no TLS: see `server` in the kubeconfig",
        Silence::Closed | Silence::Other => {
            "see whether an API server runs at this address, and whether the CA in the kubeconfig is its own"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_does_not_answer_gets_a_hint_for_the_reason() {
        for (url, reason, begin) in [
            ("http://a:1", "tcp connect error: Connection refused (os error 111)", "nothing listens at this address: "),
            ("unix:///k", "No such file or directory (os error 2)", "nothing listens at this address: "),
            ("http://a:1", "dns error: failed to lookup address", "this machine knows no address of that name"),
            ("http://a:1", "tcp connect error: deadline has elapsed", "nothing has answered in time: "),
            ("https://a:1", "received corrupt message of type InvalidContentType", NO_TLS),
            ("https://a:1", "tls handshake eof", "something listens there, and it speaks no TLS: "),
            ("https://a:1", "stream closed because of a broken pipe", CLOSED_OVER_TLS),
            ("http://a:1", "stream closed because of a broken pipe", CLOSED_IN_PLAIN),
            ("http://a:1", "gone", OF_API_SERVER),
        ] {
            let hint = silent_etcd(url, reason);
            assert!(hint.starts_with(begin), "{reason}: {hint}");
        }
    }

    const NO_TLS: &str = "something listens there, and it speaks no TLS: if it is etcd: --etcd-servers http://a:1; ";
    const CLOSED_OVER_TLS: &str = "something listens there, and it closed the connection, perhaps because it accepts";
    const CLOSED_IN_PLAIN: &str = "something listens there, and it closed the connection, perhaps because it expects TLS: \
                                   --etcd-servers https://a:1 ";

    #[test]
    fn each_side_that_distrusts_a_certificate_is_named() {
        for (reason, begin) in [
            ("invalid peer certificate: UnknownIssuer", "its certificate is refused"),
            ("invalid peer certificate: certificate not valid for name \"a\"", "its certificate is for other names"),
            ("received fatal alert: UnrecognisedName", "its certificate is for other names"),
            ("invalid peer certificate: certificate expired: verification time 9", "its certificate has expired"),
            ("received fatal alert: CertificateRequired", "it accepts only clients with"),
            ("received fatal alert: BadCertificate", "it accepts only clients with"),
        ] {
            let hint = silent_etcd("https://a:1", reason);
            assert!(hint.starts_with(&format!("something listens there, and {begin}")), "{reason}: {hint}");
        }
        // The server refuses the protocol, and not the certificate.
        assert_eq!(silent_etcd("https://a:1", "received fatal alert: ProtocolVersion"), OF_API_SERVER);
    }

    #[test]
    #[cfg(feature = "reencrypt")]
    fn an_api_server_that_does_not_answer_gets_a_hint_for_the_reason() {
        for (reason, begin) in [
            ("Connection refused (os error 111)", "nothing listens at this address, which is `server`"),
            ("dns error: failed", "this machine knows no address of that name"),
            ("no answer within 90 s", "nothing has answered in time"),
            (
                "invalid peer certificate: UnknownIssuer",
                "something listens there, and its certificate is not signed by",
            ),
            ("certificate not valid for name \"a\"", "something listens there, and its certificate is for other names"),
            ("certificate expired: verification time 9", "something listens there, and its certificate has expired"),
            ("received fatal alert: UnknownCA", "something listens there, and it refuses the client certificate"),
            ("received corrupt message of type InvalidContentType", "something listens there, and it speaks no TLS"),
            ("reset", "see whether an API server runs at this address"),
        ] {
            assert!(silent_api_server(reason).starts_with(begin), "{reason}");
        }
    }
}
