"""Data sets of the plug-in; importing the package registers the embedded one."""

from rcnnkit.data.shapes import register_shapes

register_shapes()
