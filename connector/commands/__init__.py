"""The commands of an administrator, one module each: `options` adds its arguments, `run` answers with the exit status.

0: all is well. 1: something is found that a person must look at. 2: the command could not be carried out.
"""
