//! Makes the keys of one API server: an authority, a serving certificate under it, and the key pair that signs service
//! accounts.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::error::{Context, Result};

/// The files that kube-apiserver's flags name.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) serving_certificate: PathBuf,
    pub(crate) serving_key: PathBuf,
    pub(crate) account_key: PathBuf,
    /// The public key, in its own file: kube-apiserver cannot read it from a PKCS#8 private key.
    pub(crate) account_public_key: PathBuf,
}

impl Certificates {
    /// Makes all files in `directory`. The certificates are for loopback, and live as long as the directory.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let made = Made::new().during(|| "making certificates".to_owned())?;
        let write = |name: &str, pem: String| write(directory, name, pem);
        Ok(Self {
            authority: write("ca.crt", made.authority.pem())?,
            serving_certificate: write("serving.crt", made.serving.pem())?,
            serving_key: write("serving.key", made.serving_key.serialize_pem())?,
            account_key: write("sa.key", made.account_key.serialize_pem())?,
            account_public_key: write("sa.pub", made.account_key.public_key_pem())?,
        })
    }
}

/// A client's certificate, signed by itself, and its key. A server that trusts it as an authority trusts this one
/// client.
#[derive(Clone)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl ClientCertificate {
    /// Makes a certificate and its key in `directory`. `name` is the name of the certificate and of its user.
    pub(crate) fn create(directory: &Path, name: &str) -> Result<Self> {
        let (certificate, key) = self_signed(name).during(|| format!("making a certificate for {name}"))?;
        Ok(Self {
            certificate: write(directory, &format!("{name}.crt"), certificate.pem())?,
            key: write(directory, &format!("{name}.key"), key.serialize_pem())?,
        })
    }
}

fn self_signed(name: &str) -> std::result::Result<(Certificate, KeyPair), rcgen::Error> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    Ok((parameters.self_signed(&key)?, key))
}

fn write(directory: &Path, name: &str, pem: String) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, pem).during(|| format!("writing {}", path.display()))?;
    Ok(path)
}

struct Made {
    authority: Certificate,
    serving: Certificate,
    serving_key: KeyPair,
    account_key: KeyPair,
}

impl Made {
    fn new() -> std::result::Result<Self, rcgen::Error> {
        let authority_key = KeyPair::generate()?;
        let parameters = authority_parameters()?;
        let authority = parameters.self_signed(&authority_key)?;
        let issuer = Issuer::new(parameters, authority_key);
        let serving_key = KeyPair::generate()?;
        let serving = serving_parameters()?.signed_by(&serving_key, &issuer)?;
        Ok(Self { authority, serving, serving_key, account_key: KeyPair::generate()? })
    }
}

fn authority_parameters() -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "claviger test authority");
    Ok(parameters)
}

fn serving_parameters() -> std::result::Result<CertificateParams, rcgen::Error> {
    let names = ["127.0.0.1", "::1", "localhost", "kubernetes.default.svc"];
    let mut parameters = CertificateParams::new(names.map(String::from))?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "kube-apiserver");
    Ok(parameters)
}
