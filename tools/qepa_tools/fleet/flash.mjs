// A board's flash: a file system in memory whose files reach the host directory when they are closed or flushed,
// whole or not at all, as on LittleFS. What a killed board had open for writing is lost; what it closed stays.
import fs from 'node:fs';
import path from 'node:path';

const DIRECTORY = 0o40777;
const EIO = 29; // WASI number; _board.py translates
const EPERM = 63;
const ACCESS_MODE = 3;
const UNCOMMITTED = '.~uncommitted';

export function mountFlash(FS, at, hostDir) {
  FS.mkdirTree(at);
  if (hostDir === null) return;
  fs.mkdirSync(hostDir, { recursive: true });
  FS.mount(durableFileSystem(FS, hostDir), {}, at);
}

function durableFileSystem(FS, hostDir) {
  const memory = FS.filesystems.MEMFS;
  const onHost = (node) => (node.parent === node ? hostDir : path.join(onHost(node.parent), node.name));
  const durably = (act) => {
    try {
      return act();
    } catch (error) {
      if (error instanceof FS.ErrnoError) throw error;
      throw new FS.ErrnoError(EIO);
    }
  };
  const commit = (node) => {
    if (!node.uncommitted) return;
    const target = onHost(node);
    durably(() => {
      fs.writeFileSync(target + UNCOMMITTED, node.contents ? node.contents.subarray(0, node.usedBytes) : '');
      fs.renameSync(target + UNCOMMITTED, target);
    });
    node.uncommitted = false;
  };
  const refuse = () => {
    throw new FS.ErrnoError(EPERM);
  };

  const { dir, file } = memory.ops_table;
  const fileNodeOps = {
    ...file.node,
    setattr(node, attributes) {
      file.node.setattr(node, attributes);
      if (attributes.size !== undefined) node.uncommitted = true;
    },
  };
  const fileStreamOps = {
    ...file.stream,
    write(stream, ...rest) {
      stream.node.uncommitted = true;
      return file.stream.write(stream, ...rest);
    },
    close(stream) {
      if ((stream.flags & ACCESS_MODE) !== 0 && !stream.node.removed) commit(stream.node);
    },
    fsync(stream) {
      if (!stream.node.removed) commit(stream.node);
      return 0;
    },
  };
  const dirNodeOps = {
    ...dir.node,
    mknod(parent, name, mode, dev) {
      const node = createNode(parent, name, mode, dev);
      if (FS.isDir(mode)) durably(() => fs.mkdirSync(onHost(node), { recursive: true }));
      else node.uncommitted = true;
      return node;
    },
    rename(node, newParent, newName) {
      const from = onHost(node);
      const replaced = newParent.contents[newName];
      dir.node.rename(node, newParent, newName); // checks first, so that the host follows only what was allowed
      if (replaced) replaced.removed = true;
      // MEMFS leaves these two to its caller, which sets them after this returns.
      node.parent = newParent;
      node.name = newName;
      durably(() => fs.existsSync(from) && fs.renameSync(from, onHost(node)));
    },
    unlink(parent, name) {
      const node = parent.contents[name];
      const target = onHost(node);
      dir.node.unlink(parent, name);
      node.removed = true;
      durably(() => fs.rmSync(target, { force: true }));
    },
    rmdir(parent, name) {
      const target = onHost(parent.contents[name]);
      dir.node.rmdir(parent, name);
      durably(() => fs.rmdirSync(target));
    },
    symlink: refuse,
  };

  function createNode(parent, name, mode, dev) {
    const node = memory.createNode(parent, name, mode, dev);
    if (FS.isDir(mode)) {
      node.node_ops = dirNodeOps;
    } else {
      node.node_ops = fileNodeOps;
      node.stream_ops = fileStreamOps;
    }
    return node;
  }

  function load(parent, from) {
    for (const entry of fs.readdirSync(from, { withFileTypes: true })) {
      const source = path.join(from, entry.name);
      if (entry.name.endsWith(UNCOMMITTED)) {
        fs.rmSync(source);
      } else if (entry.isDirectory()) {
        load(createNode(parent, entry.name, DIRECTORY, 0), source);
      } else {
        const node = createNode(parent, entry.name, 0o100666, 0);
        node.contents = new Uint8Array(fs.readFileSync(source));
        node.usedBytes = node.contents.length;
      }
    }
  }

  return {
    mount() {
      const root = createNode(null, '/', DIRECTORY, 0);
      load(root, hostDir);
      return root;
    },
  };
}
