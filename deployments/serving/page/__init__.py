"""The pages of the desk, in Gradio; one module a tab.

They know no rule: they call what the HTTP interface calls and show the answer.
"""
