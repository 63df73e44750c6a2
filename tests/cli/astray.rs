//! Tests what commands say if they get the wrong socket, directory or key, or if the keyring is gone.

use std::os::unix::net::UnixListener;

use super::{backup::STATE, sandbox::Sandbox, status::SOCKET};

#[test]
fn serve_leaves_the_socket_of_another_program_alone() {
    let sandbox = Sandbox::initialised();
    let _theirs = UnixListener::bind(sandbox.path("run/kms.sock")).unwrap();
    for more in ["", " --take-over"] {
        let refused = sandbox.refused(3, &format!("serve {STATE} {SOCKET}{more}"));
        let expected = "refusing to listen: another program listens at [DIR]/run/kms.sock, and it does not hold the lock of a plugin\n\
                        hint:  to see which program it is: ss -xlp src [DIR]/run/kms.sock; end it, or give another --socket\n";
        assert!(refused.stderr.ends_with(expected), "{refused}");
    }
}
