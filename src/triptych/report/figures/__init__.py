"""The figures of a report, drawn by matplotlib as PNG and SVG."""
