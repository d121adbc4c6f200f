//! Which directories may be granted: never the host's own state, and nothing a worker could write
//! workers into, or it would grant itself what it likes.

use std::path::{Path, PathBuf};

use crate::sandbox::{Access, DirectoryGrant, Grants};

/// Why a grant is refused; `None` when all are fine.
pub(super) fn refused(grants: &Grants, tree: &Path, state: &Path) -> Option<(String, &'static str)> {
    grants.directories.iter().find_map(|grant| refusal(grant, tree, state))
}

fn refusal(grant: &DirectoryGrant, tree: &Path, state: &Path) -> Option<(String, &'static str)> {
    let host = real(&grant.host);
    let shown = grant.host.display();
    if !grant.host.is_dir() {
        return Some((format!("there is no directory {shown} to grant"), "make it, or name another"));
    }
    if meet(&host, &real(state)) {
        let why = format!("the directory {shown} cannot be granted: the host keeps its own state there");
        return Some((why, "grant a directory outside the tree of workers"));
    }
    let tree = real(tree);
    if grant.access == Access::ReadWrite && meet(&host, &tree) && !is_hidden_below(&host, &tree) {
        let why = format!("the directory {shown} cannot be granted for writing: a worker could put workers there");
        return Some((why, "grant a directory outside the tree, or one whose name starts with `.`"));
    }
    None
}

/// Whether one lies in the other.
fn meet(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Hidden entries are no part of the tree.
fn is_hidden_below(path: &Path, tree: &Path) -> bool {
    let below = path.strip_prefix(tree).ok();
    below.is_some_and(|below| below.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".")))
}

/// The path without links, as far as it exists; `..` in the rest is followed by name.
fn real(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut known = path;
    loop {
        if let Ok(found) = known.canonicalize() {
            let mut real = found;
            for part in rest.iter().rev() {
                if *part == ".." {
                    real.pop();
                } else {
                    real.push(part);
                }
            }
            return real;
        }
        let last = known.components().next_back().map(|part| part.as_os_str());
        match (known.parent(), last) {
            (Some(parent), Some(last)) => {
                rest.push(last);
                known = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            }
            _ => return path.to_path_buf(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_let_a_worker_grant_itself_more_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("workers");
        let state = tree.join(".paguro");
        for made in ["workers/data", "workers/.paguro", "workers/.data", "outside"] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        std::os::unix::fs::symlink(&state, dir.path().join("link")).unwrap();
        let check = |host: &str, access| {
            let grant = DirectoryGrant { host: dir.path().join(host), guest: "/data".into(), access };
            refused(&Grants { directories: vec![grant], ..Grants::default() }, &tree, &state).is_some()
        };
        let cases = [
            ("outside", Access::ReadWrite, false),
            ("workers/.data", Access::ReadWrite, false),
            ("workers/data", Access::Read, false),
            ("workers/data", Access::ReadWrite, true),
            ("workers/not-there-yet", Access::ReadWrite, true),
            ("not-there", Access::Read, true),
            ("outside/../workers/data", Access::ReadWrite, true),
            ("workers/.paguro/cache", Access::Read, true),
            ("link", Access::Read, true),
            ("workers", Access::Read, true),
            (".", Access::Read, true),
            ("/", Access::Read, true),
        ];
        for (host, access, expected) in cases {
            assert_eq!(check(host, access), expected, "{host} {access:?}");
        }
    }
}
