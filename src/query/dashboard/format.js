// Numbers and times for people. Amounts are exact decimals in text; what is shown is rounded, the exact text is its title.

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (value) => (Math.abs(value) < 100_000 ? whole.format(value) : compact.format(value));

export function rate(value) {
  if (value >= 100_000) return compact.format(value);
  return value >= 100 || Number.isInteger(value) ? whole.format(value) : value.toFixed(1);
}

export function amount(text) {
  const value = Number(text);
  const size = Math.abs(value);
  if (size >= 10_000_000) return compact.format(value);
  const decimals = size === 0 || Number.isInteger(value) ? 0 : size >= 1_000 ? 0 : size >= 10 ? 1 : size >= 0.01 ? 2 : 4;
  return new Intl.NumberFormat("en", { minimumFractionDigits: 0, maximumFractionDigits: decimals }).format(value);
}

/** Milliseconds as `3.2 s`, `4 min`, `2 h 5 min`, `12 d 4 h`: two parts at most. */
export function duration(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1_000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const parts = (big, small, bigName, smallName) => {
    const rest = Math.floor(small);
    return rest > 0 ? `${Math.floor(big)} ${bigName} ${rest} ${smallName}` : `${Math.floor(big)} ${bigName}`;
  };
  const minutes = seconds / 60;
  if (minutes < 60) return minutes < 10 ? parts(minutes, seconds % 60, "min", "s") : `${Math.floor(minutes)} min`;
  const hours = minutes / 60;
  if (hours < 24) return parts(hours, minutes % 60, "h", "min");
  const days = hours / 24;
  return days < 60 ? parts(days, hours % 24, "d", "h") : `${Math.floor(days)} d`;
}

const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const minute = new Intl.DateTimeFormat("en", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: "UTC",
});

export const date = (time) => day.format(new Date(time));
export const moment = (time) => `${minute.format(new Date(time))} UTC`;
export const timeOfDay = (time) => time.slice(11, 19);
export const until = (time) => Date.parse(time) - Date.now();

export function inTime(time) {
  const left = until(time);
  return left > 0 ? `in ${duration(left)}` : "now";
}

export function percent(part, all) {
  if (all <= 0) return part > 0 ? "100%" : "0%";
  const value = (part / all) * 100;
  if (value > 0 && value < 0.05) return "<0.1%";
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.floor(value)}%`;
}

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
