//! Makes thousands of good calls, and keeps their seeds.

use std::os::unix::net::SocketAddr;

use rand::{TryRng, rngs::SysRng};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::transport::Channel;

use super::aes::MessageKeys;
use crate::campaign::hostile::good::{
    self,
    api::{DecryptRequest, EncryptRequest, key_management_service_client::KeyManagementServiceClient},
};

pub(super) type Seed = [u8; 32];

/// The number of calls that an API server makes at the same time. At its start it makes many.
const AT_A_TIME: usize = 16;

/// A seed, with the answer of Encrypt.
pub(super) struct Wrapped {
    pub(super) seed: Seed,
    ciphertext: Vec<u8>,
    key_id: String,
}

/// An API server whose connection stays open.
pub(super) struct Client {
    runtime: Runtime,
    channel: Channel,
}

pub(super) fn random() -> Seed {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).unwrap();
    seed
}

impl Client {
    pub(super) fn connect(address: &SocketAddr) -> Self {
        let runtime = good::runtime();
        let channel = runtime.block_on(good::connect(address)).unwrap();
        Self { runtime, channel }
    }

    /// Has `count` random seeds wrapped and unwrapped. Returns them in their order.
    pub(super) fn round_trips(&self, count: usize) -> Vec<Wrapped> {
        self.runtime.block_on(async {
            let (mut tasks, mut done) = (JoinSet::new(), Vec::new());
            for _ in 0..count {
                if tasks.len() == AT_A_TIME {
                    done.extend(tasks.join_next().await.unwrap());
                }
                tasks.spawn(round_trip(self.channel.clone()));
            }
            done.extend(tasks.join_all().await);
            done
        })
    }
}

async fn round_trip(channel: Channel) -> Wrapped {
    let mut client = KeyManagementServiceClient::new(channel);
    let seed = random();
    let request = EncryptRequest { plaintext: seed.to_vec(), uid: "memory".to_owned() };
    let answer = client.encrypt(request).await.unwrap().into_inner();
    let wrapped = Wrapped { seed, ciphertext: answer.ciphertext, key_id: answer.key_id };
    let plaintext = client.decrypt(wrapped.request()).await.unwrap().into_inner().plaintext;
    assert_eq!(plaintext, seed);
    wrapped
}

impl Wrapped {
    pub(super) fn request(&self) -> DecryptRequest {
        let (ciphertext, key_id) = (self.ciphertext.clone(), self.key_id.clone());
        DecryptRequest { ciphertext, uid: "memory".to_owned(), key_id, ..DecryptRequest::default() }
    }

    /// Returns the key under which only this seed was encrypted.
    pub(super) fn message_key(&self, keys: &MessageKeys) -> Seed {
        keys.of_nonce(self.ciphertext[36..60].try_into().unwrap())
    }
}
