/** What a release is made of, as a CycloneDX document: npm's own list, and what is linked into the binaries. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";

import { run, runWell } from "../command.js";
import { root } from "../prebuilds/check.js";

interface Component {
  type: "library" | "file";
  name: string;
  version?: string;
  description?: string;
  licenses?: { expression: string }[] | { license: { name: string } }[];
  hashes?: { alg: "SHA-256"; content: string }[];
}

interface Sbom {
  serialNumber: string;
  metadata: { timestamp: string };
  components: Component[];
}

export const sha256 = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");

/** The compilers that a binary names as its makers. */
function compilersOf(file: string): string[] {
  const { output } = run("readelf", ["--string-dump=.comment", file], { cwd: root, env: { ...process.env, LC_ALL: "C" } });
  return [...new Set([...output.matchAll(/GCC: \([^)]*\) ([\d.]+)/g)].map((match) => match[1]!))];
}

export interface SbomOptions {
  /** Binaries, by the name under which they lie in the package. */
  binaries: ReadonlyMap<string, string>;
  tarball: string;
  /** Of the release's commit, so that the same commit gives the same document. */
  time: Date;
  /** Version of the CUDA toolkit, where the release has a CUDA library. */
  cuda: string | undefined;
}

/** The document's text. */
export function sbomText({ binaries, tarball, time, cuda }: SbomOptions): string {
  const { stdout } = runWell("npm", ["sbom", "--sbom-format=cyclonedx", "--sbom-type=library", "--omit=dev", "--package-lock-only"], { cwd: root, env: process.env });
  const sbom = JSON.parse(stdout) as Sbom;
  const compilers = new Set([...binaries.values()].flatMap(compilersOf));
  sbom.components.push(
    ...[...compilers].sort().map((version): Component => ({
      type: "library", name: "libstdc++ and libgcc", version, description: "linked statically into every binary", licenses: [{ expression: "GPL-3.0-or-later WITH GCC-exception-3.1" }],
    })),
    ...(cuda === undefined ? [] : [{
      type: "library", name: "cudart_static", version: cuda, description: "linked statically into libhimap-cuda.so", licenses: [{ license: { name: "NVIDIA CUDA Toolkit EULA" } }],
    } satisfies Component]),
    ...[...binaries].sort().map(([name, file]): Component => ({ type: "file", name, hashes: [{ alg: "SHA-256", content: sha256(file) }] })),
    { type: "file", name: path.basename(tarball), hashes: [{ alg: "SHA-256", content: sha256(tarball) }] },
  );
  sbom.metadata.timestamp = time.toISOString();
  // A number of its own for each release, and the same for the same release.
  const digits = sha256(tarball);
  sbom.serialNumber = `urn:uuid:${digits.slice(0, 8)}-${digits.slice(8, 12)}-8${digits.slice(13, 16)}-8${digits.slice(17, 20)}-${digits.slice(20, 32)}`;
  return `${JSON.stringify(sbom, undefined, 2)}\n`;
}
