/** Reads the text format of Prometheus as strictly as its documentation describes it; what is wrong throws. */

export interface Family {
  help: string;
  type: string;
  /** By the sample's name with its labels, as it stands in the text. */
  samples: Map<string, number>;
}

const sampleLine = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$/;

export function parseMetrics(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line is not ended");
  const families = new Map<string, Family>();
  let current: { name: string; family: Family } | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const [, kind, name, rest] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line) ?? [];
    if (kind === "HELP") {
      if (families.has(name!)) throw new Error(`${name}: described twice`);
      current = { name: name!, family: { help: rest!, type: "", samples: new Map() } };
      families.set(name!, current.family);
    } else if (kind === "TYPE") {
      if (current?.name !== name || current!.family.samples.size > 0) throw new Error(`${name}: its type is out of place`);
      if (!["counter", "gauge", "histogram"].includes(rest!)) throw new Error(`${name}: type ${rest}`);
      current!.family.type = rest!;
    } else {
      const [whole, sample, labels, number] = sampleLine.exec(line) ?? [];
      if (whole === undefined || !current) throw new Error(`not a sample: ${line}`);
      const allowed = current.family.type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => current!.name + end) : [current.name];
      if (!allowed.includes(sample!)) throw new Error(`${sample}: does not belong to ${current.name}`);
      const value = number === "+Inf" ? Infinity : Number(number);
      if (Number.isNaN(value)) throw new Error(`${line}: not a number`);
      const key = labels ? `${sample}{${labels}}` : sample!;
      if (current.family.samples.has(key)) throw new Error(`${key}: given twice`);
      current.family.samples.set(key, value);
    }
  }
  for (const [name, family] of families) check(name, family);
  return families;
}

function check(name: string, { type, samples }: Family): void {
  if (samples.size === 0) throw new Error(`${name}: no samples`);
  if (type === "counter" && !name.endsWith("_total")) throw new Error(`${name}: a counter ends in _total`);
  if (type !== "histogram") return;
  const buckets = [...samples].flatMap(([key, value]) => {
    const le = /_bucket\{le="([^"]+)"\}$/.exec(key)?.[1];
    return le === undefined ? [] : [{ bound: le === "+Inf" ? Infinity : Number(le), value }];
  });
  buckets.forEach((bucket, i) => {
    const before = buckets[i - 1];
    if (before && !(bucket.bound > before.bound && bucket.value >= before.value)) throw new Error(`${name}: buckets out of order`);
  });
  const last = buckets.at(-1);
  if (last?.bound !== Infinity || last.value !== samples.get(`${name}_count`)) throw new Error(`${name}: its last bucket is not all`);
  if (samples.get(`${name}_sum`) === undefined) throw new Error(`${name}: no sum`);
}
